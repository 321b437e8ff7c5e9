"""The nets that the tables train."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

_SMALL = 64
"""Side in pixels below which a ResNet's second halving would come too early."""


@dataclass(frozen=True)
class Net:
    """A timm model.

    Args:
        model: its name.
        args: for `timm.create_model`.
        size: side of its input in pixels.
        weights: .safetensors to start from, under the model's own names; None starts from scratch.
    """

    model: str = "resnet18"
    args: dict[str, Any] = field(default_factory=lambda: {"channels": (32, 64, 128, 256)})
    size: int = 48
    weights: Path | None = None


class SplitNorm(nn.Module):
    """Batch normalisation with statistics and weights of their own for extra samples.

    They are the last of a batch; a test sees those of the real samples (Xie et al. 2020,
    arXiv 1911.09665). timm's splits a batch into equal parts, which these are not.

    Args:
        norm: that of the real samples, copied for the others.

    Attributes:
        real_samples: number of real samples, which come first; None where all are.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.real, self.extra = norm, copy.deepcopy(norm)
        self.real_samples: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        count = self.real_samples
        if not self.training or count is None or count == len(x):
            return self.real(x)  # type: ignore[no-any-return]
        return torch.cat([self.real(x[:count]), self.extra(x[count:])])


def split_norms(model: nn.Module, real_samples: int) -> None:
    """Tell a model with `SplitNorm` how many samples of the batches to come are real."""
    for module in model.modules():
        if isinstance(module, SplitNorm):
            module.real_samples = real_samples


def build(net: Net, classes: int, seed: int, split_norm: bool = False) -> nn.Module:
    """Return a model for grey faces; the same seed gives the same weights.

    Raises:
        RuntimeError: `net.weights` are of another model.
    """
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model(net.model, in_chans=1, num_classes=classes, **net.args)
    if net.weights is not None:
        _load(model, net.weights)
    elif net.size < _SMALL and hasattr(model, "maxpool"):
        model.maxpool = nn.Identity()
    if split_norm:
        _split(model)
    return model.to(memory_format=torch.channels_last)


def _load(model: nn.Module, file: Path) -> None:
    """Load all but the last layer; a first layer for colours is summed over them."""
    own, found = model.state_dict(), load_file(file)
    for name, value in found.items():
        if name in own and value.ndim == 4 and value.shape[1] == 3 and own[name].shape[1] == 1:
            found[name] = value.float().sum(1, keepdim=True)
    last = {n for n in own if n.startswith(("classifier.", "fc.", "head."))}
    if set(found) - last != set(own) - last or any(
        found[n].shape != own[n].shape for n in set(own) - last
    ):
        raise RuntimeError(f"{file} are not weights of this model")
    kept = {n: t.float() if t.is_floating_point() else t for n, t in found.items()}
    model.load_state_dict({n: t for n, t in kept.items() if n not in last}, strict=False)


def _split(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SplitNorm(child))
        else:
            _split(child)
