"""Paste-back: the change that a synthesizer makes, added to the original pixels.

Only the change travels: it is resized to the image's resolution and added under a soft mask, so
full-resolution detail stays, and where the mask is 0 the pixels are bit-identical.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from expraug.faces.align import invert, sample, scale, strips, supersampling

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, as Pillow's grey conversion uses them."""

_CENTRE = (0.5, 0.56)
_RADII = (0.42, 0.43)
_SOLID = 0.62  # inside this share of the radii the mask is 1


def luminance(images: Tensor) -> Tensor:
    """Return the luminance of (B, 3, H, W) RGB: (B, 1, H, W), same range."""
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


@lru_cache(maxsize=8)
def face_mask(size: int) -> Tensor:
    """Return the soft face mask of the canonical frame: (1, S, S) float in [0, 1].

    1 over brows, eyes, nose, cheeks, mouth and chin; falls smoothly to 0 before the frame's edge.
    """
    axis = (torch.arange(size) + 0.5) / size
    x = ((axis - _CENTRE[0]) / _RADII[0]).abs().view(1, -1)
    y = ((axis - _CENTRE[1]) / _RADII[1]).abs().view(-1, 1)
    radius = (x**2.5 + y**2.5) ** (1 / 2.5)
    t = ((1 - radius) / (1 - _SOLID)).clamp(0, 1)
    return (t * t * (3 - 2 * t)).unsqueeze(0)


def hide_background(faces: Tensor) -> Tensor:
    """Turn grey what the face mask hides of aligned (B, 1, S, S) faces in [0, 1].

    Nets that need not know it know faces: paste-back shows nothing else.
    """
    return 0.5 + (faces - 0.5) * face_mask(faces.shape[-1]).to(faces)


def mask_box(matrix: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the (top, left, bottom, right) pixels of an image that the mask can touch."""
    (cx, cy), (rx, ry) = _CENTRE, _RADII
    corners = np.array([[x, y, 1.0] for x in (cx - rx, cx + rx) for y in (cy - ry, cy + ry)])
    xy = corners @ matrix.T
    left, top = np.floor(xy.min(axis=0)).astype(int)
    right, bottom = np.ceil(xy.max(axis=0)).astype(int)
    return max(top, 0), max(left, 0), min(bottom, height), min(right, width)


def paste_back(
    images: Tensor, change: Tensor, matrices: np.ndarray, box: tuple[int, int, int, int]
) -> Tensor:
    """Add the change of aligned faces to the images they came from.

    Args:
        images: (B, C, H, W) uint8, of 1 (grey) or 3 channels. Grey images take the luminance of
            the change.
        change: (B, 3, S, S) float: synthetic minus aligned source, in [-1, 1].
        matrices: (B, 2, 3) from `similarity`.
        box: (top, left, bottom, right) from `mask_box`; it must hold for all B.

    Returns:
        (B, C, bottom - top, right - left) uint8: the box with the change in it.
    """
    top, left, bottom, right = box
    region = images[:, :, top:bottom, left:right]
    corners = np.tile([left, top], (len(matrices), 1))
    if images.device.type != "cpu":
        return paste_regions(region, change, matrices, corners)
    masked, back, per_pixel = _prepared(region, change, matrices, corners)
    # colours last, as image arrays have them, and never all of a photograph in floats
    pixels = region.permute(0, 2, 3, 1)
    pasted = torch.empty(pixels.shape, dtype=torch.uint8)
    for i, matrix in enumerate(back):
        for rows, part in strips(masked[i], matrix, (bottom - top, right - left), per_pixel):
            added = part.permute(1, 2, 0).contiguous().add_(pixels[i, rows])
            pasted[i, rows] = added.round_().clamp_(0, 255)
    return pasted.permute(0, 3, 1, 2)


def paste_regions(
    regions: Tensor, change: Tensor, matrices: np.ndarray, corners: np.ndarray
) -> Tensor:
    """Add the change of aligned faces to parts of the images they came from, all at once.

    Args:
        regions: (B, C, h, w) uint8, of 1 or 3 channels; what lies beside an image is padding.
        change: as `paste_back` takes it.
        matrices: (B, 2, 3) from `similarity`; they must need the same supersampling.
        corners: (B, 2), (x, y) of the regions' first pixels in their images.

    Returns:
        As `regions`, with the change in it.
    """
    masked, back, per_pixel = _prepared(regions, change, matrices, corners)
    height, width = regions.shape[2:]
    resized = sample(masked, torch.from_numpy(back), (height, width), per_pixel)
    return resized.add_(regions).round_().clamp_(0, 255).to(torch.uint8)


def _prepared(
    regions: Tensor, change: Tensor, matrices: np.ndarray, corners: np.ndarray
) -> tuple[Tensor, np.ndarray, int]:
    """Return the masked change, and what `sample` takes to resize it to the regions."""
    size = change.shape[-1]
    height, width = regions.shape[2:]
    if regions.shape[1] == 1:
        change = luminance(change)
    masked = change * face_mask(size).to(change) * 255
    # region coordinates in [0, 1]² -> image pixels -> canonical pixels
    to_canonical = invert(matrices) * size
    linear = to_canonical[:, :, :2]
    spread = linear * np.array([width, height])
    start = linear @ corners[:, :, None].astype(np.float64) + to_canonical[:, :, 2:]
    per_pixel = supersampling(1 / scale(matrices[0], size))
    return masked, np.concatenate([spread, start], axis=2), per_pixel
