"""Losses of the synthesizers that learn."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
