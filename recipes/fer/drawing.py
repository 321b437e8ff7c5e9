"""What each step of training sees: a class is drawn, then real or extra, then the face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.fer.conditions import Condition


@dataclass(frozen=True)
class Mixing:
    """How extra samples are mixed in.

    Args:
        share: of the draws of a rare class that are extra samples.
        frequent: the same of the most frequent class; in between in proportion to the lack.
        soft: weight of the gate net's probabilities in the label of a synthetic.
        schedule: "constant"; or "falling": twice the share at first, none in the end.
        ratio: most synthetics for each real face, of those that the gate passed; 0 for all.
        intensities: only synthetics of these; none given means all.
        variants: only the first so many variants; 0 for all.
        on_top: extra samples come in addition to the real draws of their class, whose share among
            the draws grows, instead of in their place.
    """

    share: float = 0.35
    frequent: float = 0.0
    soft: float = 0.0
    schedule: str = "constant"
    ratio: float = 0.0
    intensities: tuple[float, ...] = ()
    variants: int = 0
    on_top: bool = False

    def at(self, progress: float) -> float:
        """Return what the shares are multiplied with at a point of training, 0 to 1."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule != "falling":
            raise ValueError(f"schedule is 'constant' or 'falling', not {self.schedule!r}")
        return 2 * (1 - progress)


@dataclass
class Samples:
    """Faces to train on: (N, 64, 64) uint8, and their (N, E) labels, rows summing to 1."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Samples:
        """Return the same on a device."""
        return Samples(self.pixels.to(device), self.labels.to(device))


class Draw:
    """Draws the faces of each step.

    Args:
        real, extra: samples, on one device.
        extra_class: (M,) class that each extra sample stands for.
        condition: says how evenly classes are drawn.
        mix: says how many of the draws are extra samples.
    """

    def __init__(
        self,
        real: Samples,
        extra: Samples | None,
        extra_class: Tensor | None,
        condition: Condition,
        mix: Mixing,
    ) -> None:
        device = real.labels.device
        classes = real.labels.argmax(1)
        counts = torch.bincount(classes, minlength=real.labels.shape[1]).float()
        even = (counts > 0).float() / (counts > 0).sum()
        self.prior = (1 - condition.balance) * counts / counts.sum() + condition.balance * even
        self.on_top = mix.on_top
        self.real = ByClass(classes, real.labels.shape[1])
        self.extra: ByClass | None = None
        if extra is not None and extra_class is not None and len(extra_class):
            lack = 1 - counts / counts.max()
            self.share = mix.frequent + (mix.share - mix.frequent) * lack
            self.extra = ByClass(extra_class.to(device), real.labels.shape[1])
            self.share = self.share * (self.extra.counts > 0)

    def chance(self, factor: float) -> Tensor:
        """Return the share of the draws of each class that are extra samples, (E,)."""
        if self.extra is None:
            return torch.zeros_like(self.prior)
        return (self.share * factor).clamp(max=0.95)

    def classes(self, factor: float) -> Tensor:
        """Return the share of each class among the draws, (E,), summing to 1."""
        if not self.on_top:
            return self.prior
        # real faces of two classes are drawn in the same proportion as without extra samples
        grown = self.prior / (1 - self.chance(factor))
        return grown / grown.sum()

    def __call__(self, count: int, factor: float) -> tuple[Tensor, Tensor]:
        """Return (count,) indices and whether each is among the extra samples."""
        classes = torch.multinomial(self.classes(factor), count, replacement=True)
        rows = self.real.draw(classes)
        is_extra = torch.zeros_like(classes, dtype=torch.bool)
        if self.extra is not None:
            chance = self.chance(factor)[classes]
            is_extra = torch.rand(count, device=classes.device) < chance
            rows = torch.where(is_extra, self.extra.draw(classes), rows)
        return rows, is_extra


class ByClass:
    """Indices of the samples of each class, to draw from."""

    def __init__(self, classes: Tensor, count: int) -> None:
        self.order = classes.argsort(stable=True)
        self.counts = torch.bincount(classes, minlength=count)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, classes: Tensor) -> Tensor:
        """Return an index for each class; of a class without samples any, which is not used."""
        inside = torch.rand(len(classes), device=classes.device) * self.counts[classes]
        place = self.starts[classes] + inside.long()
        return self.order[place.clamp(max=len(self.order) - 1)]
