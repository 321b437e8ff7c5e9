"""Faces whose parts move."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_grid(side: int, like: Tensor) -> Tensor:
    """Return the places of pixels, (1, 2, side, side), (x, y) as `grid_sample` counts them: the
    frame is 2 wide, and its middle is 0."""
    middle = (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack([x, y])[None]


def sample(images: Tensor, place: Tensor, padding: str = "border") -> Tensor:
    """Sample (B, C, s, s) images bilinearly at (B, 2, t, t) places: (B, C, t, t)."""
    grid = place.expand(len(images), -1, -1, -1).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Let parts of images move.

    Args:
        images: (B, C, S, S) float.
        flow: (B, 2, s, s), from each pixel of the result to what it shows, in units of
            `pixel_grid`.

    Returns:
        (B, C, S, S); where the flow is 0, the same to the bit.
    """
    grid = pixel_grid(images.shape[-1], images)
    stays = sample(images, grid)  # the same but for rounding
    return images + (sample(images, grid + resized(flow, images.shape[-1])) - stays)


def resized(images: Tensor, side: int) -> Tensor:
    """Return (B, C, s, s) images at another side: averaged where it is smaller."""
    if images.shape[-1] == side:
        return images
    if images.shape[-1] > side:
        return F.interpolate(images, (side, side), mode="area")
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)


def enlarge(x: Tensor) -> Tensor:
    """Return (B, C, s, s) images twice as large."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
