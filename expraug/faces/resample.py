"""Images whose pixels move, resampled once at their own resolution, bicubically."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STILL = 1 / 512
"""Image pixels that a pixel moves at most without being resampled: no grey value would change."""
REPEATED = 3
"""Image pixels beside a padded image that must repeat its border: as many as bicubic weights see.
"""
_BLOCK = 256  # width of what is resampled at a time, so that it stays in a core's cache


def resample_rows(image: Tensor, shift: Tensor, top: int, left: int) -> Tensor:
    """Return some rows of an image on the CPU, each pixel taken from elsewhere in it.

    Args:
        image: (C, H, W) uint8, colours last in memory.
        shift: (2, rows, w) float, (x, y): from each pixel to what it shows, in image pixels.
        top, left: place in the image of the first pixel.

    Returns:
        (C, rows, w) float; beside the image its border is repeated. Pixels that do not move are
        the image's own.
    """
    rows, width = shift.shape[1:]
    out = image.new_empty(len(image), rows, width, dtype=shift.dtype)
    out.copy_(image[:, top : top + rows, left : left + width])
    down = torch.arange(rows, dtype=shift.dtype).unsqueeze(1)
    for first in range(0, width, _BLOCK):
        part = shift[:, :, first : first + _BLOCK]
        moves = (part.abs() > STILL).any(0)
        if not moves.any():
            continue
        x = part[0] + torch.arange(part.shape[2], dtype=shift.dtype)
        y = part[1] + down
        x, x_from, x_to = _span(x, left + first, image.shape[2])
        y, y_from, y_to = _span(y, top, image.shape[1])
        seen = image[:, y_from:y_to, x_from:x_to]
        source = torch.empty(seen.shape, dtype=shift.dtype).copy_(seen)
        grid = torch.stack([x * (2 / (x_to - x_from)) - 1, y * (2 / (y_to - y_from)) - 1])
        grid = grid.permute(1, 2, 0)  # planes are quicker to read than pairs
        block = out[:, :, first : first + _BLOCK]
        block.copy_(torch.where(moves, _bicubic(source[None], grid[None])[0], block))
    return out


def _span(place: Tensor, origin: int, length: int) -> tuple[Tensor, int, int]:
    """Return places counted from the first of the pixels that are needed, these from and to.

    Args:
        place: whole numbers are pixel centres, counted from `origin`; small, so that they are
            exact.
        origin: place of 0 along an image.
        length: of the image; places beside it are drawn near.
    """
    place = place.clamp(-REPEATED - origin, length - 1 + REPEATED - origin)
    if length <= _BLOCK:  # to look which are needed costs more than to take all
        return place + (origin + 0.5), 0, length
    low, high = (int(value) for value in (place.min().floor(), place.max().floor()))
    first = min(max(low + origin - 1, 0), length - 1)
    last = max(min(high + origin + REPEATED, length), first + 1)
    return place + (origin - first + 0.5), first, last


def resample_padded(images: Tensor, shift: Tensor, inside: Tensor) -> Tensor:
    """Return images, each pixel taken from elsewhere in them, all at once.

    Args:
        images: (B, C, H, W) uint8; the first `REPEATED` pixels of what is padding repeat the
            border.
        shift: (B, 2, H, W) float, (x, y): from each pixel to what it shows, in pixels.
        inside: (B, 2) float, (width, height) of each image without padding.

    Returns:
        (B, C, H, W) float. Pixels that do not move are the images' own.
    """
    height, width = images.shape[2:]
    still = images.to(shift.dtype)
    x = torch.arange(width, dtype=shift.dtype, device=shift.device)
    y = torch.arange(height, dtype=shift.dtype, device=shift.device).unsqueeze(1)
    # a pixel beyond the last centre all weights fall on the repeated border
    x, y = (
        torch.minimum(x + shift[:, 0], inside[:, 0, None, None]),
        torch.minimum(y + shift[:, 1], inside[:, 1, None, None]),
    )
    grid = torch.stack([(x + 0.5) * (2 / width) - 1, (y + 0.5) * (2 / height) - 1], -1)
    moves = (shift.abs() > STILL).any(1, keepdim=True)
    return torch.where(moves, _bicubic(still, grid), still)


def _bicubic(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)
