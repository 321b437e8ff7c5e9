"""Losses of the synthesizers that learn."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_STILL = 0.002  # of a frame's side


def discriminator_hinge(real: Tensor, fakes: list[Tensor]) -> Tensor:
    """Return the hinge loss of a discriminator (Lim & Ye 2017), a scalar.

    Args:
        real: its outputs on what is real, any shape.
        fakes: its outputs on each kind of what is not; the kinds weigh alike, and together as
            much as `real`.
    """
    wrong = sum(F.relu(1 + fake).mean() for fake in fakes)
    return F.relu(1 - real).mean() + wrong / len(fakes)


def generator_hinge(fake: Tensor) -> Tensor:
    """Return the generator's side of the hinge loss, a scalar."""
    return -fake.mean()


def identity_triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.2
) -> Tensor:
    """Return FaceNet's triplet loss (Schroff et al. 2015), a scalar.

    Args:
        anchor, positive, negative: (B, D) unit vectors: of the synthetic, of its source, and of a
            face of somebody else.
        margin: by which the squared distance to the negative must exceed that to the positive.
    """
    near = (anchor - positive).square().sum(1)
    far = (anchor - negative).square().sum(1)
    return F.relu(near - far + margin).mean()


def total_variation(change: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels of (B, C, H, W), a scalar."""
    across = (change[..., 1:] - change[..., :-1]).abs().mean()
    down = (change[..., 1:, :] - change[..., :-1, :]).abs().mean()
    return across + down


def edge_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute difference of the gradients of two (B, C, H, W), a scalar."""
    return total_variation(found - wanted)


def masked_l1(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute difference of two (B, C, H, W), weighted by a (1, H, W) mask."""
    return ((found - wanted).abs() * mask).mean() / mask.mean()


def shortfall(found: Tensor, wanted: Tensor, weight: Tensor, parts: int = 4) -> Tensor:
    """Return by how much movements fall short of others, or go beyond, along these; a scalar in
    their unit.

    Who minimises an absolute difference moves less than what he cannot foresee; this asks that
    each part of the face moves as far as it should, wherever in the part that is.

    Args:
        found, wanted: (B, 2, H, W).
        weight: (1, H, W), of places.
        parts: a face has so many squared.
    """
    along = ((found * wanted).sum(1, keepdim=True) - wanted.square().sum(1, keepdim=True)) * weight
    size = wanted.square().sum(1, keepdim=True) * weight
    along, size = (F.adaptive_avg_pool2d(m, parts) for m in (along, size))
    # a part that stands still has no way along which to fall short
    return (along.abs() / (size + _STILL**2).sqrt()).mean()
