"""Sums and samples that `transfer` draws a face with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.composite import luminance

_OPEN_MOUTH = (0.010, 0.025)  # from closed to open enough that the row's interior shows
_NEW_MOUTH = 0.02  # change of the opening at which the source's own interior is given up


def sample(images: Tensor, grid: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """Return (B, C, H, W) samples of images at a (B, H, W, 2) grid in [-1, 1], of pixel edges."""
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def combine(weights: Tensor, rows: Tensor) -> Tensor:
    """Return `weights @ rows`, (B, N), with the same digits whatever else is in the batch.

    A matrix product adds in an order that depends on the size of the batch.
    """
    total = rows.new_zeros(len(weights), rows.shape[1])
    for k in range(len(rows)):
        total += weights[:, k : k + 1] * rows[k]
    return total


def new_mouth_share(before: Tensor, after: Tensor, amount: Tensor) -> Tensor:
    """Return how much of a mouth's interior is drawn, (B, 1) in [0, 1].

    Args:
        before, after: (B, 1) openings of the mouth, as fractions of the frame's side.
        amount: (B, 1) intensities.
    """
    low, high = _OPEN_MOUTH
    share = ((after - low) / (high - low)).clamp(0, 1)
    share = share * ((after - before).abs() / _NEW_MOUTH).clamp(0, 1)
    return share * (amount / 0.25).clamp(0, 1)


def tinted(interior: Tensor, skin: Tensor) -> Tensor:
    """Return a mouth's interior in the light and colour of its face, (B, 3, H, W) in [0, 1].

    Args:
        interior: (B, 1, H, W) luminance, as a multiple of the skin's.
        skin: (B, 3, 1, 1) colour of the cheeks.
    """
    level = luminance(skin)
    # teeth are nearly white, the throat is the skin's red and a little more
    white = ((interior - 0.5) / 0.5).clamp(0, 1)
    tint = torch.exp((1.4 - 1.1 * white) * (skin / level.clamp(min=0.02)).log())  # a power
    return (interior * level * tint).clamp(0, 1)
