"""Compositing: what a synthesizer makes, put into the original pixels at their own resolution.

Pixels of the image that move are resampled once, along the flow; the change is resized to the
image's resolution and added. Both fade out under soft masks: full-resolution detail stays, and
where the masks are 0 the pixels are bit-identical.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from expraug.faces.align import CPU_CACHE_BYTES, invert, sample, scale, strips, supersampling
from expraug.faces.resample import resample_padded, resample_rows
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces
from expraug.faces.warp import resized

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, as Pillow's grey conversion uses them."""


class _Oval(NamedTuple):
    """A soft mask: 1 inside a share of its radii, from there falling smoothly to 0 at them."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    solid: float

    def drawn(self, size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return it on a square from `low` to `high` in x and in y: (1, size, size) float."""
        axis = low + (high - low) * (torch.arange(size) + 0.5) / size
        x = ((axis - self.centre[0]) / self.radii[0]).abs().view(1, -1)
        y = ((axis - self.centre[1]) / self.radii[1]).abs().view(-1, 1)
        radius = (x**2.5 + y**2.5) ** (1 / 2.5)
        t = ((1 - radius) / (1 - self.solid)).clamp(0, 1)
        return (t * t * (3 - 2 * t)).unsqueeze(0)


_FACE = _Oval((0.5, 0.56), (0.42, 0.43), 0.62)
_JAW = _Oval((0.5, 0.76), (0.3, 0.235), 0.62)  # a mouth wide open, and the chin below it
_FLOW = _Oval((0.5, 0.56), (0.7, 0.66), 0.7)
_FINEST = 64  # side of a flow on which its mask is smooth, at least
FLOW_CELL = (FLOW_FRAME[1] - FLOW_FRAME[0]) / _FINEST
"""How far beside its mask a flow can reach by interpolation, in sides of the canonical frame."""
_TOGETHER = 4  # faces whose maps are prepared at a time on the CPU
_PLANES = 8  # of floats that a pixel takes while it is resampled
_ROWS = 64  # that are resampled at a time at least: fewer would read the same pixels again


def luminance(images: Tensor) -> Tensor:
    """Return the luminance of (B, 3, H, W) RGB: (B, 1, H, W), same range."""
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # it is kept, and may be trained with later
def face_mask(size: int) -> Tensor:
    """Return the soft face mask of the canonical frame: (1, S, S) float in [0, 1].

    1 over brows, eyes, nose, cheeks, mouth and chin; falls smoothly to 0 before the frame's edge.
    """
    return _FACE.drawn(size)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # it is kept, and may be trained with later
def moving_face_mask(size: int) -> Tensor:
    """Return the face mask of faces of which parts can move, same shape as `face_mask`.

    It reaches lower: a jaw that drops takes the mouth with it, down to the chin.
    """
    return torch.maximum(_FACE.drawn(size), _JAW.drawn(size))


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # it is kept, and may be trained with later
def flow_mask(size: int) -> Tensor:
    """Return the soft mask of a flow over `FLOW_FRAME`: (1, size, size) float in [0, 1].

    1 over face, ears and hair line, jaw and most of the neck; 0 before the frame's edge.
    """
    return _FLOW.drawn(size, *FLOW_FRAME)


def hide_background(faces: Tensor) -> Tensor:
    """Turn grey what the face mask hides of aligned (B, 1, S, S) faces in [0, 1].

    Nets that need not know it know faces: paste-back shows nothing else.
    """
    return 0.5 + (faces - 0.5) * face_mask(faces.shape[-1]).to(faces)


def masked(made: SynthesizedFaces) -> SynthesizedFaces:
    """Return how faces change under the soft masks: what compositing shows of it.

    Change and matte come back with the same side; no flow points out of `FLOW_FRAME`.
    """
    flow, matte = made.flow, made.matte
    side = map_side(made)
    shown = (face_mask if flow is None else moving_face_mask)(side).to(made.change)
    if matte is not None:
        matte = resized(matte, side).clamp(0, 1) * shown
    if flow is not None:
        flow = resized(flow, max(flow.shape[-1], _FINEST))
        size = flow.shape[-1]
        low, high = FLOW_FRAME
        axis = low + (high - low) * (torch.arange(size, device=flow.device) + 0.5) / size
        places = torch.stack([axis.expand(size, size), axis.unsqueeze(1).expand(size, size)])
        flow = (flow * flow_mask(size).to(flow)).clamp(low - places, high - places)
    return SynthesizedFaces(resized(made.change, side) * shown, flow, matte)


def mask_box(
    matrix: np.ndarray, height: int, width: int, moves: bool = False
) -> tuple[int, int, int, int]:
    """Return the (top, left, bottom, right) pixels of an image that can change.

    Args:
        matrix: (2, 3), from the canonical frame to the image.
        height, width: of the image.
        moves: there is a flow.
    """
    (cx, cy), (rx, ry), _ = _FLOW if moves else _FACE
    if moves:  # what lies between two places of the flow's map moves, too
        rx, ry = rx + FLOW_CELL, ry + FLOW_CELL
    corners = np.array([[x, y, 1.0] for x in (cx - rx, cx + rx) for y in (cy - ry, cy + ry)])
    xy = corners @ matrix.T
    left, top = np.floor(xy.min(axis=0)).astype(int)
    right, bottom = np.ceil(xy.max(axis=0)).astype(int)
    return max(top, 0), max(left, 0), min(bottom, height), min(right, width)


def paste_back(
    images: Tensor, made: SynthesizedFaces, matrices: np.ndarray, box: tuple[int, int, int, int]
) -> Tensor:
    """Put synthesized faces into the images they came from.

    Args:
        images: (B, C, H, W) uint8, of 1 (grey) or 3 channels. Grey images take the luminance of
            the change.
        made: how the B aligned faces change.
        matrices: (B, 2, 3) from `similarity`.
        box: (top, left, bottom, right) from `mask_box`; it must hold for all B.

    Returns:
        (B, C, bottom - top, right - left) uint8: the box with the changed face in it.
    """
    top, left, bottom, right = box
    if images.device.type != "cpu":
        inside = torch.tensor([images.shape[:1:-1]], dtype=torch.float32, device=images.device)
        whole = paste_regions(images, made, matrices, np.zeros((len(images), 2)), inside)
        return whole[:, :, top:bottom, left:right]
    size = (bottom - top, right - left)
    # colours last, as image arrays have them, and never all of a photograph in floats
    box_of_all = images[:, :, top:bottom, left:right].permute(0, 2, 3, 1)
    pasted = box_of_all.clone(memory_format=torch.contiguous_format)
    corner = np.array([[left, top]])
    for start in range(0, len(images), _TOGETHER):
        few = slice(start, start + _TOGETHER)
        maps = _prepared(made.part(few), matrices[few], corner, size, images.shape[1])
        for i, (image, into) in enumerate(zip(images[few], pasted[few], strict=True)):
            _paste(maps, i, image, into, (top, left))
    return pasted.permute(0, 3, 1, 2)


def _paste(maps: _Maps, i: int, image: Tensor, into: Tensor, corner: tuple[int, int]) -> None:
    """Put one face into its box, (h, w, C) uint8, which holds the image's own pixels."""
    for rows, shift, (down, across), added in _strips(maps, i, (into.shape[0], into.shape[1])):
        if shift is not None:
            stays = resample_rows(image, shift, corner[0] + rows.start, corner[1])
            if added is not None:
                first = down.start - rows.start
                _add(stays[:, first : first + added.shape[1], across], added)
            into[rows] = stays.round_().clamp_(0, 255).permute(1, 2, 0)
        elif added is not None:
            here = into[down, across]
            stays = here.permute(2, 0, 1).to(added.dtype)
            _add(stays, added)
            here.copy_(stays.round_().clamp_(0, 255).permute(1, 2, 0))


def _add(pixels: Tensor, added: Tensor) -> None:
    """Add a change to (C, h, w) pixels, in place; what lies beyond C planes of it is the matte."""
    channels = len(pixels)
    if len(added) > channels:
        pixels.mul_(1 - added[channels:])
    pixels.add_(added[:channels])


def paste_regions(
    regions: Tensor,
    made: SynthesizedFaces,
    matrices: np.ndarray,
    corners: np.ndarray,
    inside: Tensor,
) -> Tensor:
    """Put synthesized faces into parts of the images they came from, all at once.

    Args:
        regions: (B, C, h, w) uint8, of 1 or 3 channels; what lies beside an image is padding. With
            a flow, they hold all that it can reach, padded as `resample_padded` takes them.
        made: how the B aligned faces change.
        matrices: (B, 2, 3) from `similarity`; they must need the same supersampling.
        corners: (B, 2), (x, y) of the regions' first pixels in their images.
        inside: (B, 2) float, (width, height) of the regions without padding.

    Returns:
        As `regions`, with the changed faces in them.
    """
    height, width = regions.shape[2:]
    maps = _prepared(made, matrices, corners, (height, width), regions.shape[1])
    to_added = torch.from_numpy(maps.to_added)
    added = sample(maps.added, to_added, (height, width), maps.per_pixel[0])
    stays = regions
    if maps.shift is not None:
        shift = sample(maps.shift, torch.from_numpy(maps.to_shift), (height, width))
        stays = resample_padded(regions, shift, inside)
    if made.matte is not None:
        stays, added = stays * (1 - added[:, -1:]), added[:, :-1]
    return added.add_(stays).round_().clamp_(0, 255).to(torch.uint8)


def map_side(made: SynthesizedFaces) -> int:
    """Return the side at which change and matte are put into an image."""
    return max(made.change.shape[-1], 0 if made.matte is None else made.matte.shape[-1])


class _Maps(NamedTuple):
    """Masked maps, and how a part of each image lies on them, as `align.sample` takes it."""

    added: Tensor
    """(B, C, s, s) float: the change in grey values, and the matte if there is one."""
    to_added: np.ndarray
    per_pixel: list[int]
    shift: Tensor | None
    """(B, 2, f, f) float: the flow in image pixels."""
    to_shift: np.ndarray


def _prepared(
    made: SynthesizedFaces,
    matrices: np.ndarray,
    corners: np.ndarray,
    size: tuple[int, int],
    channels: int,
) -> _Maps:
    shown = masked(made)
    added = (luminance(shown.change) if channels == 1 else shown.change) * 255
    if shown.matte is not None:
        added = torch.cat([added, shown.matte], 1)
    side = added.shape[-1]
    per_pixel = [supersampling(1 / scale(matrix, side)) for matrix in matrices]
    to_canonical = invert(matrices)
    to_added = _from_region(to_canonical, corners, size) * side
    if shown.flow is None:
        return _Maps(added, to_added, per_pixel, None, to_added)
    linear = torch.from_numpy(matrices[:, :, :2]).to(shown.flow)
    shift = torch.einsum("bij,bjyx->biyx", linear, shown.flow)
    low, high = FLOW_FRAME
    to_canonical[:, :, 2] -= low
    to_shift = _from_region(to_canonical, corners, size) * (shift.shape[-1] / (high - low))
    return _Maps(added, to_added, per_pixel, shift, to_shift)


def _from_region(
    to_canonical: np.ndarray, corners: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Return the transforms from regions of images, their coordinates in [0, 1]², instead of from
    the images' pixels."""
    linear = to_canonical[:, :, :2]
    start = linear @ corners[:, :, None].astype(np.float64) + to_canonical[:, :, 2:]
    return np.concatenate([linear * np.array(size[::-1]), start], axis=2)


def _strips(
    maps: _Maps, i: int, size: tuple[int, int]
) -> Iterator[tuple[slice, Tensor | None, tuple[slice, slice], Tensor | None]]:
    """Yield rows of a region, and what the maps of one face are there.

    Yields:
        The rows; how they move, if anything does; in which rows and columns something can be
        added, and what, if any of the rows is among them.
    """
    shown, across = _covered(maps.to_added[i], size, maps.added.shape[-1])
    planes = _PLANES if maps.shift is not None else len(maps.added[i]) * maps.per_pixel[i] ** 2
    most = max(_ROWS, CPU_CACHE_BYTES // (planes * maps.added.element_size() * size[1]))
    parts = [slice(top, min(top + most, size[0])) for top in range(0, size[0], most)]
    downs = [slice(max(p.start, shown.start), min(p.stop, shown.stop)) for p in parts]
    there = [slice(d.start - shown.start, d.stop - shown.start) for d in downs if _rows(d)]
    part_size, matrix = (_rows(shown), _rows(across)), maps.to_added[i]
    matrix = _part_of(matrix, size, shown, across)
    added = strips(maps.added[i], matrix, part_size, maps.per_pixel[i], there)
    shifts: Iterator[Tensor | None] = repeat(None)
    if maps.shift is not None:
        shifts = strips(maps.shift[i], maps.to_shift[i], size, 1, parts)
    for part, down, shift in zip(parts, downs, shifts, strict=False):
        yield part, shift, (down, across), next(added) if _rows(down) else None


def _rows(part: slice) -> int:
    return max(int(part.stop - part.start), 0)


def _covered(to_map: np.ndarray, size: tuple[int, int], side: int) -> tuple[slice, slice]:
    """Return the rows and columns of a region in which a change can show: the face mask's.

    Args:
        to_map: (2, 3), from the region, in [0, 1]², to the change's pixels.
        size: (height, width) of the region.
        side: of the change.
    """
    (x, y), (rx, ry), _ = _FACE
    top, bottom = y - ry, max(y + ry, _JAW.centre[1] + _JAW.radii[1])
    (a, b, u), (c, d, v) = to_map.tolist()
    area = a * d - b * c
    # between two pixels some of the next one is seen
    reach = rx * side + 1, (bottom - top) / 2 * side + 1
    u, v = x * side - u, (top + bottom) / 2 * side - v
    height, width = size

    def ends(middle: float, half: float, length: int) -> slice:
        first, last = math.floor(middle - half) - 1, math.ceil(middle + half) + 1
        return slice(min(max(first, 0), length - 1), max(min(last, length), 1))

    half = (abs(d) * reach[0] + abs(b) * reach[1]) / abs(area)
    across = ends((d * u - b * v) / area * width, half * width, width)
    half = (abs(c) * reach[0] + abs(a) * reach[1]) / abs(area)
    return ends((a * v - c * u) / area * height, half * height, height), across


def _part_of(to_map: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    """Return the transform from a part of a region, its coordinates in [0, 1]², instead of from all
    of the region."""
    first = np.array([columns.start, rows.start]) / size[::-1]
    share = np.array([columns.stop - columns.start, rows.stop - rows.start]) / size[::-1]
    linear = to_map[:, :2]
    return np.concatenate([linear * share, (linear @ first + to_map[:, 2])[:, None]], axis=1)
