"""Augmentation of batches of grey faces where they are, by numbers that were drawn ahead.

Nothing is drawn here, so a step can be recorded once, as a CUDA graph, and replayed with other
numbers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS = 12
"""Numbers in [0, 1) that one face takes."""


def augment(faces: Tensor, numbers: Tensor, size: int, strength: Tensor) -> Tensor:
    """Return faces that are flipped, turned, scaled, moved, relit, and partly hidden.

    Args:
        faces: (B, S, S) uint8.
        numbers: (B, 12) float in [0, 1).
        size: side of what is returned.
        strength: (B,) float; 1 is usual, 0 changes nothing but the side.

    Returns:
        (B, 1, size, size) float, brightness and contrast of each face taken out.
    """
    n = numbers.T * 2 - 1
    angle, zoom = n[0] * strength * math.radians(12), 1 + 0.12 * strength * n[1]
    stretch = 1 + 0.06 * strength * n[2]
    mirror = torch.where((n[3] < 0) & (strength > 0), -1.0, 1.0)
    across, down = 0.1 * strength * n[4], 0.1 * strength * n[5]
    rows = [torch.cos(angle) * zoom * stretch * mirror, -torch.sin(angle) * zoom, across]
    rows += [torch.sin(angle) * zoom * mirror, torch.cos(angle) * zoom / stretch, down]
    shape = [len(faces), 1, size, size]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), shape, align_corners=False)
    x = faces[:, None].float() / 255
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    gamma = torch.exp(0.4 * strength * n[6]).view(-1, 1, 1, 1)
    x = standardise(x.clamp(1e-3, 1) ** gamma)
    axis = torch.linspace(-1, 1, size, device=faces.device)
    half = [(0.1 + 0.1 * (n[i] + 1)) * (n[11] < 0) * strength for i in (7, 8)]
    wide = (axis - n[9, :, None]).abs() < half[0][:, None]
    high = (axis - n[10, :, None]).abs() < half[1][:, None]
    return x.masked_fill((high[:, :, None] & wide[:, None, :])[:, None], 0.0)


def view(faces: Tensor, size: int) -> Tensor:
    """Return what a net sees of (B, S, S) uint8 faces in a test: (B, 1, size, size) float."""
    x = faces[:, None].float() / 255
    if size != faces.shape[-1]:
        x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    return standardise(x)


def standardise(x: Tensor) -> Tensor:
    """Return (B, 1, H, W) faces with the brightness and contrast of each taken out."""
    deviation, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
    return (x - mean) / (deviation + 0.02)
