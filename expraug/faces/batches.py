"""Faces of many images, aligned and composited together.

On the CPU only faces that are cut out alike share a call, so that a face's bytes do not depend on
the others. On other devices all of them do, padded to a common size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expraug.faces.align import align, sample_padded, scale, supersampling
from expraug.faces.composite import map_side, paste_back, paste_regions
from expraug.faces.frame import FramedFace
from expraug.faces.pixels import Pixels, cut_out, sides, stack
from expraug.faces.resample import REPEATED
from expraug.faces.synthesized import SynthesizedFaces, moving


def ordered(framed: Sequence[FramedFace]) -> list[int]:
    """Return the order in which faces are best worked on together: alike ones beside each other."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, face in enumerate(framed):
        groups[face.group].append(i)
    by_size: dict[int, list[int]] = defaultdict(list)
    for members in groups.values():
        by_size[framed[members[0]].size] += members
    return [i for members in by_size.values() for i in members]


def aligned(framed: Sequence[FramedFace], device: torch.device) -> Tensor:
    """Return the aligned faces of one size, (B, 3, S, S) float in [0, 1].

    Args:
        framed: the faces; on the CPU, alike ones beside each other (`ordered`).
        device: where they are, or are to be.
    """
    if device.type == "cpu":
        return torch.cat([_aligned_alike(list(g)) for _, g in groupby(framed, lambda f: f.group)])
    return aligned_padded(framed, device)


def aligned_padded(framed: Sequence[FramedFace], device: torch.device) -> Tensor:
    """Do what `aligned` does off the CPU: a few calls for all, whatever they are cut out of."""
    size = framed[0].size
    faces = torch.empty(len(framed), 3, size, size, device=device)
    for members in _buckets(framed, lambda f: (f.down, f.reduced)):
        part = [framed[i] for i in members]
        pixels, inside = _padded([face.reduced for face in part], device)
        matrices = np.stack([face.reduced_matrix for face in part])
        faces[_index(members, framed)] = sample_padded(
            pixels.float().div_(255), inside, matrices, (size, size), part[0].down
        )
    return faces


def _aligned_alike(group: Sequence[FramedFace]) -> Tensor:
    matrices = np.stack([face.reduced_matrix for face in group])
    pixels = stack([face.reduced for face in group]).float().div_(255)
    return align(pixels, matrices, group[0].size).expand(-1, 3, -1, -1)


def composited(
    framed: Sequence[FramedFace], made: Sequence[SynthesizedFaces]
) -> tuple[list[Tensor], Tensor]:
    """Put synthesized faces into the pixels that the faces were cut out of.

    Args:
        framed: B faces, as `aligned` takes them.
        made: how these B change in each of T frames; where it is worked on.

    Returns:
        Of each face (T, h, w, 1 or 3) uint8, its box (`FramedFace.box`) with the changed face in
        it; and (B,) bool, in which of them nothing changes in the last.
    """
    if made[0].change.device.type == "cpu":
        patches: list[Tensor] = []
        same: list[Tensor] = []
        start = 0
        for _, members in groupby(framed, lambda f: f.group):
            group = list(members)
            part = slice(start, start + len(group))
            pasted, kept = _composited_alike(group, [one.part(part) for one in made])
            patches += pasted
            same.append(kept)
            start += len(group)
        return patches, torch.cat(same)
    return composited_padded(framed, made)


def composited_padded(
    framed: Sequence[FramedFace], made: Sequence[SynthesizedFaces]
) -> tuple[list[Tensor], Tensor]:
    """Do what `composited` does off the CPU: a few calls for all, whatever they are cut out of."""
    device, moves = made[0].change.device, moving(made)
    found: dict[int, Tensor] = {}
    unchanged = torch.zeros(len(framed), dtype=torch.bool, device=device)
    side = map_side(made[0])
    for bucket in _buckets(framed, lambda f: (supersampling(1 / scale(f.matrix, side)), f.pixels)):
        part = [framed[i] for i in bucket]
        boxes = [f.box(moves) for f in part]
        # what moves may come from beside the box
        seen = [f.pixels if moves else cut_out(f.pixels, *f.box(False)) for f in part]
        regions, inside = _padded(seen, device, REPEATED if moves else 0)
        matrices = np.stack([f.matrix for f in part])
        corners = np.array([(0, 0) if moves else (box[1], box[0]) for box in boxes])
        rows = _index(bucket, framed)
        frames = [paste_regions(regions, one.part(rows), matrices, corners, inside) for one in made]
        changed = (frames[-1] != regions) & _is_inside(regions, inside)
        unchanged[rows] = ~changed.flatten(1).any(1)
        pasted = torch.stack(frames, 1).permute(0, 1, 3, 4, 2)
        for i, box, (x, y), patch in zip(bucket, boxes, corners, pasted, strict=True):
            top, left, bottom, right = box
            found[i] = patch[:, top - y : bottom - y, left - x : right - x]
    return [found[i] for i in range(len(framed))], unchanged


def _composited_alike(
    group: Sequence[FramedFace], made: Sequence[SynthesizedFaces]
) -> tuple[list[Tensor], Tensor]:
    moves = moving(made)
    box, matrices = group[0].box(moves), np.stack([face.matrix for face in group])
    images = [face.pixels for face in group]
    if not moves:  # pixels that nothing can change need not be copied
        images = [cut_out(image, *box) for image in images]
        matrices[:, :, 2] -= (box[1], box[0])
        box = (0, 0, box[2] - box[0], box[3] - box[1])
    top, left, bottom, right = box
    pixels = stack(images)
    frames = [paste_back(pixels, one, matrices, box) for one in made]
    same = (frames[-1] == pixels[:, :, top:bottom, left:right]).flatten(1).all(1)
    return list(torch.stack(frames, 1).permute(0, 1, 3, 4, 2).contiguous()), same


def _buckets(framed: Sequence[FramedFace], key: Any) -> list[list[int]]:
    """Return the positions of faces that are padded to a common size.

    Args:
        key: gives a face's supersampling, and its pixels: of those that come together the largest
            is at most twice as large as the others.
    """
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, face in enumerate(framed):
        per_pixel, pixels = key(face)
        found[per_pixel, _channels(pixels), max(sides(pixels)).bit_length()].append(i)
    return list(found.values())


def _index(bucket: list[int], framed: Sequence[FramedFace]) -> list[int] | slice:
    """Return what picks a bucket out of a batch: all of it without a copy."""
    return slice(None) if len(bucket) == len(framed) else bucket


def _channels(image: Pixels) -> int:
    if isinstance(image, Tensor):
        return len(image)
    return 1 if image.ndim == 2 else int(image.shape[2])


def _padded(
    images: Sequence[Pixels], device: torch.device, repeated: int = 0
) -> tuple[Tensor, Tensor]:
    """Return images as (B, C, H, W) uint8, padded on the right and below, and their sizes.

    The latter are (B, 2) float, (width, height). The first `repeated` pixels of the padding repeat
    the border; the others are 0.
    """
    extents = [sides(image) for image in images]
    height, width = (max(extent[k] for extent in extents) for k in (0, 1))
    if len(set(extents)) == 1:
        pixels = stack(images).to(device)
    else:
        pixels = torch.zeros(
            len(images), _channels(images[0]), height, width, dtype=torch.uint8, device=device
        )
        for into, image, (tall, wide) in zip(pixels, images, extents, strict=True):
            into[:, :tall, :wide] = stack([image])[0]
            if repeated:
                into[:, :tall, wide : wide + repeated] = into[:, :tall, wide - 1 : wide]
                into[:, tall : tall + repeated] = into[:, tall - 1 : tall]
    inside = torch.tensor([(wide, tall) for tall, wide in extents], dtype=torch.float32)
    return pixels, inside.to(device)


def _is_inside(regions: Tensor, inside: Tensor) -> Tensor:
    """Return which pixels of padded regions belong to them, (B, 1, H, W) bool."""
    height, width = regions.shape[2:]
    x = torch.arange(width, device=regions.device) < inside[:, :1]
    y = torch.arange(height, device=regions.device) < inside[:, 1:]
    return (y[:, :, None] & x[:, None, :])[:, None]
