"""From located faces to what the cache keeps: framed, aligned, synthesized, scored, pasted back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch

from expraug.cache import CacheEntry
from expraug.draw import Draw
from expraug.expressions import Expression
from expraug.faces.alignment import align
from expraug.faces.frame import FramedFace, frame, stack_landmarks
from expraug.faces.locate import Location
from expraug.faces.paste import face_mask, paste_back
from expraug.gate import Gate
from expraug.synthesizer import Synthesizer

PASTE_VERSION = 2
"""Raised when alignment or paste-back gives other pixels; part of every cache key."""


@torch.inference_mode()
def synthesize(
    images: Sequence[np.ndarray],
    locations: Sequence[Location | None],
    draws: Sequence[Draw],
    synthesizer: Synthesizer,
    gate: Gate | None,
    *,
    device: torch.device,
    batch_size: int,
) -> list[CacheEntry]:
    """Make synthetic faces.

    Args:
        images: (H, W) or (H, W, 3) uint8; sizes may differ.
        locations: of the faces in them; None where there is none.
        draws: what to make of each.
        synthesizer: makes them; it is moved to the device.
        gate: scores them, if any.
        batch_size: faces a pass.

    Returns:
        One entry an image: the changed box of it, and scores; or the reason "no_face".
    """
    synthesizer = synthesizer.to(device)
    entries = [CacheEntry(None, reason="no_face") for _ in images]
    groups: dict[tuple[Any, ...], list[tuple[int, FramedFace]]] = defaultdict(list)
    for i, (image, location) in enumerate(zip(images, locations, strict=True)):
        if location is not None:
            framed = frame(image, location, synthesizer.image_size, synthesizer.any_size)
            groups[framed.group].append((i, framed))
    of_size: dict[int, list[tuple[int, FramedFace]]] = defaultdict(list)
    for members in groups.values():
        of_size[members[0][1].size] += members
    for ordered in of_size.values():
        for start in range(0, len(ordered), batch_size):
            part = ordered[start : start + batch_size]
            faces, asked = [face for _, face in part], [draws[i] for i, _ in part]
            made = _one_pass(faces, asked, synthesizer, gate, device)
            for (i, _), entry in zip(part, made, strict=True):
                entries[i] = entry
    return entries


def _one_pass(
    framed: Sequence[FramedFace],
    draws: Sequence[Draw],
    synthesizer: Synthesizer,
    gate: Gate | None,
    device: torch.device,
) -> list[CacheEntry]:
    """Synthesize faces of one aligned size, those of one group beside each other."""
    size = framed[0].size
    groups = [list(g) for _, g in groupby(framed, key=lambda face: face.group)]
    pixels = [_pixels(group).to(device) for group in groups]
    matrices = [np.stack([face.matrix for face in group]) for group in groups]
    aligned = [
        align(p.float().div_(255), m, size).expand(-1, 3, -1, -1)
        for p, m in zip(pixels, matrices, strict=True)
    ]
    faces = torch.cat(aligned)
    target = torch.tensor([int(draw.target) for draw in draws], device=device)
    intensity = torch.tensor([draw.level / 100 for draw in draws], device=device)
    extra = {k: v.to(device) for k, v in _extra_inputs(framed, draws, synthesizer).items()}
    change = synthesizer(faces, target, intensity, **extra) - faces
    scores: dict[str, torch.Tensor] = {}
    if gate is not None:
        seen = (faces + change * face_mask(size).to(change)).clamp(0, 1)
        scores = gate.score(faces, seen, target)
    values = {name: score.float().cpu().tolist() for name, score in scores.items()}
    changes = change.split([len(group) for group in groups])
    patches: list[np.ndarray] = []
    for group, p, c, m in zip(groups, pixels, changes, matrices, strict=True):
        pasted = paste_back(p, c, m, group[0].box)
        arrays = pasted.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        patches += list(arrays[..., 0] if arrays.shape[-1] == 1 else arrays)
    return [
        CacheEntry(
            patch,
            f.place,
            {name: v[i] for name, v in values.items()},
        )
        for i, (f, patch) in enumerate(zip(framed, patches, strict=True))
    ]


@torch.inference_mode()
def synthesize_clip(
    image: np.ndarray,
    location: Location,
    target: Expression,
    frames: int,
    synthesizer: Synthesizer,
    gate: Gate | None,
    *,
    variant: int = 0,
    device: torch.device,
) -> tuple[list[CacheEntry], dict[str, float]]:
    """Make the frames of a clip, each as `synthesize` makes a face.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        location: of the face in it.
        target: what the last frame shows.
        frames: their number, at least 2.
        synthesizer: makes them; it is moved to the device.
        gate: scores the last frame, if any.
        variant: number of the variant.
        device: where the synthesizer runs.

    Returns:
        One entry a frame, and the scores.
    """
    synthesizer = synthesizer.to(device)
    framed = frame(image, location, synthesizer.image_size, synthesizer.any_size)
    pixels, matrix = _pixels([framed]).to(device), framed.matrix[None]
    face = align(pixels.float().div_(255), matrix, framed.size).expand(-1, 3, -1, -1)
    asked = torch.tensor([int(target)], device=device)
    extra = _extra_inputs([framed], [Draw(target, variant=variant)], synthesizer)
    inputs = {name: values.to(device) for name, values in extra.items()}
    changes = synthesizer.clip(face, asked, frames, **inputs)[0] - face
    scores: dict[str, float] = {}
    if gate is not None:
        seen = (face + changes[-1:] * face_mask(framed.size).to(changes)).clamp(0, 1)
        scores = {k: float(v) for k, v in gate.score(face, seen, asked).items()}
    # one at a time: all frames of a large photograph, in floats, would fill the memory
    patches = [paste_back(pixels, change[None], matrix, framed.box)[0] for change in changes]
    return [
        CacheEntry((p[0] if len(p) == 1 else p.permute(1, 2, 0)).cpu().numpy(), framed.place)
        for p in patches
    ], scores


def _pixels(group: Sequence[FramedFace]) -> torch.Tensor:
    """Return the pixels of a group, (B, C, h, w) uint8."""
    pixels = torch.from_numpy(np.stack([face.pixels for face in group]))
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


def _extra_inputs(
    framed: Sequence[FramedFace], draws: Sequence[Draw], synthesizer: Synthesizer
) -> dict[str, torch.Tensor]:
    """Return the keyword arguments that this synthesizer's forward takes."""
    extra: dict[str, torch.Tensor] = {}
    if synthesizer.variants > 1:
        extra["variant"] = torch.tensor([draw.variant for draw in draws])
    if synthesizer.needs_landmarks:
        for name, arrays in stack_landmarks(framed).items():
            extra[name] = torch.from_numpy(arrays)
    return extra
