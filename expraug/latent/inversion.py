"""Inversion: the latents with which a generator draws a given face.

An encoder answers at once; from there, or from the mean latent, some steps of Adam (Kingma & Ba
2015) bring the drawn face nearer. The pull back to where they start keeps the latents among those
of faces, where directions of change hold (Tov et al. 2021 on that trade).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.networks.batching import independently

DrawFaces = Callable[[Tensor], Tensor]
"""Maps (B, L, W) latents to (B, 1, S, S) grey faces, each by itself; differentiable."""

_SCALES = 3
_MOST_STEPS = 100_000


@dataclass(frozen=True)
class Refining:
    """How latents are optimised.

    Args:
        steps: of Adam; 0 leaves the latents as they start.
        rate: of learning, in units of a latent.
        gradient: weight of the difference between the faces' gradients, next to 1 for the
            difference between their pixels; both at the full size and at a half and a quarter.
        start, mean: weight of the mean squared distance of the latents to where they start, and to
            the mean latent.

    Raises:
        ValueError: fewer steps than 0, or so many that it would never end.
    """

    steps: int = 0
    rate: float = 0.03
    gradient: float = 1.0
    start: float = 0.02
    mean: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= _MOST_STEPS:
            raise ValueError(f"steps must be 0 to {_MOST_STEPS}, not {self.steps}")


def invert(
    faces: Tensor,
    draw: DrawFaces,
    mean: Tensor,
    encoder: Callable[[Tensor], Tensor] | None = None,
    refining: Refining | None = None,
) -> Tensor:
    """Return the latents of faces.

    On the CPU each face is inverted alone, so that its latents do not depend on its batch. Nothing
    random is in it.

    Args:
        faces: (B, 1, S, S) float in [0, 1].
        draw: the generator.
        mean: (L, W) float, the mean latent: where a face starts without an encoder.
        encoder: faces to latents.
        refining: None for none.

    Returns:
        (B, L, W) float, without a gradient.
    """
    refining = refining or Refining()
    found = [mean.new_empty(0, *mean.shape)]
    for (part,) in independently(faces) if len(faces) else ():
        with torch.no_grad():
            latents = mean.expand(len(part), *mean.shape) if encoder is None else encoder(part)
        found.append(refine(draw, part, latents, mean, refining) if refining.steps else latents)
    return torch.cat(found)


def refine(
    draw: DrawFaces, faces: Tensor, latents: Tensor, mean: Tensor, refining: Refining
) -> Tensor:
    """Return latents that draw the faces better than those given.

    Faces do not influence each other; also under `torch.no_grad` and `torch.inference_mode`.

    Args:
        faces: (B, 1, S, S) float in [0, 1].
        latents: (B, L, W) float, to start at.
        mean: (L, W) float, or anything that broadcasts to the latents.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # clones: autograd takes no tensors that were made in inference mode
        wanted, start, middle = (t.detach().clone() for t in (faces, latents, mean))
        moving = start.clone().requires_grad_()
        adam = torch.optim.Adam([moving], refining.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(1, refining.steps))
        for _ in range(refining.steps):
            pull = refining.start * (moving - start).square().mean((1, 2))
            pull = pull + refining.mean * (moving - middle).square().mean((1, 2))
            loss = (differences(draw(moving), wanted, refining.gradient) + pull).sum()
            (moving.grad,) = torch.autograd.grad(loss, moving)
            adam.step()
            schedule.step()
    return moving.detach()


def differences(faces: Tensor, wanted: Tensor, gradient: float = 1.0) -> Tensor:
    """Return, for each of (B, 1, S, S) faces, its mean distance to the one wanted: (B,) float.

    L1 of pixels and, times `gradient`, of their differences to the next; at three scales.
    """
    gap = faces - wanted.to(faces.dtype)
    total = gap.new_zeros(len(gap))
    for scale in range(_SCALES):
        if scale:
            gap = F.avg_pool2d(gap, 2)
        total = total + gap.abs().mean((1, 2, 3))
        for axis in (2, 3):
            total = total + gradient * gap.diff(dim=axis).abs().mean((1, 2, 3))
    return total / _SCALES
