"""Training of the mouth painter, as image inpainting is taught (Pathak et al. 2016).

* Mouths with their own code: L1 and gradients to what was there, and features of the discriminator
  (Larsen et al. 2016).
* All mouths, also those with another's code: a discriminator of patches (Isola et al. 2017) that
  knows the outline, and how sharp the photograph is.
* Mouths with another's code: the code read from the paint is to be the one asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.mouth import MouthOutline
from expraug.networks.mouth_painter import (
    MouthPainter,
    interior_of,
    light_level,
    matte_of,
    surroundings,
)
from recipes.mouth_painter.drawing import Batch
from recipes.real_faces import SETS
from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.discriminator import ProjectionDiscriminator
from recipes.training.losses import discriminator_hinge, generator_hinge

_GAIN = 16.0
"""Of the discriminator: spectral norm lets it change no faster than what it sees, and between a
blurred tooth and a sharp one that is little."""


@dataclass(frozen=True)
class Options(Optimization):
    """Weights of the losses, and how the nets are trained.

    Args:
        l1, edges, features: of what the paint differs from the mouth that was there.
        real: of the adversarial loss.
        code: of what the code read from the paint differs from another's that was asked for.
    """

    l1: float = 4.0
    edges: float = 4.0
    features: float = 2.0
    real: float = 0.15
    code: float = 1.0


@dataclass(frozen=True)
class Painted:
    """B painted mouths, in luminance relative to the light level of their surroundings.

    Args:
        real, made: (B, 1, 64, 96) windows as photographed, and with the inside painted.
        inside: (B, 1, 64, 96) in [0, 1].
        level: (B, 1, 1, 1).
        outline: of the lips.
    """

    real: Tensor
    made: Tensor
    inside: Tensor
    level: Tensor
    outline: MouthOutline


def paint(painter: MouthPainter, batch: Batch) -> Painted:
    """Let a painter paint a batch."""
    outline = batch.window.outline()
    level = light_level(batch.grey, surroundings(outline))
    found = painter.paint_windows(batch.grey, level, outline, batch.code).float()
    real = batch.grey / level - 1
    made = torch.lerp(real, found, matte_of(outline))
    return Painted(real, made, outline.depth.clamp(0, 1), level, outline)


class Trainer(AdversarialTrainer):
    """Takes the steps.

    Args:
        painter: what learns.
        options: see there.
        steps: of the whole run, for the schedule.
        device: where all of it is.
    """

    def __init__(
        self, painter: MouthPainter, options: Options, steps: int, device: torch.device
    ) -> None:
        discriminator = ProjectionDiscriminator(2, len(SETS), width=48, halvings=3)
        super().__init__(painter, discriminator, options, steps, device)
        self.discriminator = discriminator
        self.painter, self.options = painter, options

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of the discriminator and one of the painter; return the losses."""
        with self.autocast:
            painted = paint(self.painter, batch)
            found = self._discriminate(painted, batch)
            losses = self._losses(painted, batch)
        self.update_generator(torch.stack(list(losses.values())).sum())
        return {name: value.detach() for name, value in (losses | found).items()}

    def _discriminate(self, painted: Painted, batch: Batch) -> dict[str, Tensor]:
        near = _patches(painted.inside)
        both = torch.cat([_seen(painted, painted.real), _seen(painted, painted.made.detach())])
        scores = _GAIN * self.discriminator(both, batch.sharpness.repeat(2)).float()
        real, made = scores.chunk(2)
        loss = discriminator_hinge(real[near], [made[near]])
        self.update_discriminators(loss)
        return {"discriminator": loss}

    def _losses(self, painted: Painted, batch: Batch) -> dict[str, Tensor]:
        o, own = self.options, batch.own
        seen = _seen(painted, painted.made)
        scores = _GAIN * self.discriminator(seen, batch.sharpness).float()
        near = _patches(painted.inside)
        losses = {"real": o.real * generator_hinge(scores[near])}
        if own.any():
            error, real = (painted.made - painted.real)[own], _seen(painted, painted.real)[own]
            losses |= {
                "l1": o.l1 * _per_mouth(error.abs(), painted.inside[own]),
                "edges": o.edges * _edges(error, painted.inside[own]),
                "features": o.features * self._features(seen[own], real),
            }
        if not own.all():
            there = ~own
            window = type(batch.window)(
                *(t[there] for t in (batch.window.centre, batch.window.across)),
                *(t[there] for t in (batch.window.upper, batch.window.lower)),
            )
            made = (painted.made[there] + 1) * painted.level[there]
            read = interior_of(made, window)
            losses["code"] = o.code * (read - batch.code[there]).abs().mean()
        return losses

    def _features(self, made: Tensor, real: Tensor) -> Tensor:
        """Return how the discriminator's features of the paint differ from the photographs'."""
        x = F.pixel_unshuffle(2 * torch.cat([made, real]) - 1, 2)
        unlike = []
        for layer in self.discriminator.body:
            x = layer(x)
            if isinstance(layer, torch.nn.LeakyReLU):
                of_made, of_real = x.chunk(2)
                size = of_real.detach().abs().mean() + 1e-3
                unlike.append((of_made - of_real.detach()).abs().mean() / size)
        return torch.stack(unlike).mean()


def _seen(painted: Painted, windows: Tensor) -> Tensor:
    """Return what the discriminator sees, (B, 2, 64, 96) in [0, 1]."""
    return torch.cat([(windows + 1) / 1.6, painted.inside], 1)


def _patches(inside: Tensor) -> Tensor:
    """Return which patches of the discriminator touch the inside, (B, 1, 8, 12) bool."""
    return F.max_pool2d(inside, 8) > 0.5


def _per_mouth(error: Tensor, inside: Tensor) -> Tensor:
    """Return the mean over the inside of each mouth, over mouths: a small one counts as much."""
    total = inside.sum((1, 2, 3)).clamp(min=1)
    return ((error * inside).sum((1, 2, 3)) / total).mean()


def _edges(error: Tensor, inside: Tensor) -> Tensor:
    """Return the mean absolute gradient of an error inside the mouths."""
    across = _per_mouth(error.diff(dim=3).abs(), inside[..., 1:])
    return across + _per_mouth(error.diff(dim=2).abs(), inside[..., 1:, :])
