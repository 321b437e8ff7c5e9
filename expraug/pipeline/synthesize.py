"""From detected faces to what the cache keeps: aligned, synthesized, composited, scored.

Nothing else calls a synthesizer, but for the recipes that train one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expraug.cache import CacheEntry
from expraug.faces.align import align
from expraug.faces.composite import face_mask, paste_back
from expraug.faces.detect import DetectedFace
from expraug.faces.frame import FramedFace, frame, stack_landmarks
from expraug.gate import Gate
from expraug.networks.batching import independently
from expraug.pipeline.requests import SynthesisRequest
from expraug.synthesizer import Synthesizer
from expraug.threads import map_threads, single_threaded

COMPOSITING_VERSION = 3
"""Raised when alignment or compositing gives other pixels; part of every cache key."""


_OVERSHOOT = 0.5
"""What leaves [0, 1] by more is no picture: of a broken synthesizer, or in another range."""
_PIECE_BYTES = 32 << 20
"""Pixels of the faces that are worked on together: of large ones, one at a time."""


@torch.inference_mode()
def synthesize(
    images: Sequence[np.ndarray],
    faces: Sequence[DetectedFace | None],
    requests: Sequence[SynthesisRequest],
    synthesizer: Synthesizer,
    gate: Gate | None,
    *,
    device: torch.device,
    batch_size: int,
    frames: int | None = None,
) -> list[list[CacheEntry]]:
    """Make synthetic faces, or clips of them.

    Args:
        images: (H, W) or (H, W, 3) uint8; sizes may differ.
        faces: in them; None where there is none.
        requests: what to make of each; the intensity of a clip is ignored.
        synthesizer: makes them; it is moved to the device.
        gate: scores them, if any; of a clip, the last frame.
        device: where synthesizer and gate run.
        batch_size: faces per batch.
        frames: of each clip, at least 2; None makes one picture of each image.

    Returns:
        For each image the entries of its frames (one without `frames`): the changed box, and
        scores in the last. Or a single entry without a picture and with a reason: "no_face";
        "not_finite" or "out_of_range", what the synthesizer made is no picture; or "unchanged", it
        equals its source.
    """
    synthesizer = synthesizer.to(device)
    entries = [[CacheEntry(None, reason="no_face")] for _ in images]
    groups: dict[tuple[Any, ...], list[tuple[int, FramedFace]]] = defaultdict(list)
    for i, (image, face) in enumerate(zip(images, faces, strict=True)):
        if face is not None:
            framed = frame(image, face, synthesizer.image_size, synthesizer.size_agnostic)
            groups[framed.group].append((i, framed))
    by_size: dict[int, list[tuple[int, FramedFace]]] = defaultdict(list)
    for members in groups.values():
        by_size[members[0][1].size] += members
    with single_threaded() as threads:
        for ordered in by_size.values():
            pieces = list(_pieces(ordered, batch_size if frames is None else 1, threads, device))

            def make(piece: Sequence[tuple[int, FramedFace]]) -> list[list[CacheEntry]]:
                asked = [requests[i] for i, _ in piece]
                batch = [face for _, face in piece]
                return _batch(batch, asked, synthesizer, gate, device, frames)

            cores = threads if device.type == "cpu" else 1
            for piece, made in zip(pieces, map_threads(make, pieces, cores), strict=True):
                for (i, _), made_of_one in zip(piece, made, strict=True):
                    entries[i] = made_of_one
    return entries


def _pieces(
    faces: Sequence[tuple[int, FramedFace]], most: int, threads: int, device: torch.device
) -> Iterator[Sequence[tuple[int, FramedFace]]]:
    """Yield faces that are worked on together: so many at most, and so few that all cores work."""
    if device.type == "cpu":
        most = min(most, -(-len(faces) // threads))
    start = 0
    while start < len(faces):
        room = _PIECE_BYTES // faces[start][1].pixels.nbytes
        yield faces[start : start + max(1, min(most, room))]
        start += max(1, min(most, room))


@torch.inference_mode()  # again: it holds for one thread
def _batch(
    framed: Sequence[FramedFace],
    requests: Sequence[SynthesisRequest],
    synthesizer: Synthesizer,
    gate: Gate | None,
    device: torch.device,
    frames: int | None,
) -> list[list[CacheEntry]]:
    """Synthesize faces of one aligned size, those of one group beside each other."""
    size = framed[0].size
    groups = [list(g) for _, g in groupby(framed, key=lambda face: face.group)]
    faces = torch.cat([_aligned(group, device) for group in groups])
    target = torch.tensor([int(request.target) for request in requests], device=device)
    extra = {k: v.to(device) for k, v in _extra_inputs(framed, requests, synthesizer).items()}
    if frames is None:
        intensity = torch.tensor([request.intensity for request in requests], device=device)
        made = synthesizer(faces, target, intensity, **extra)[:, None]
    else:
        made = synthesizer.clip(faces, target, frames, **extra)
    finite = made.flatten(1).isfinite().all(1)
    low, high = made.flatten(1).aminmax(dim=1)
    usable = finite & (low >= -_OVERSHOOT) & (high <= 1 + _OVERSHOOT)
    changes = torch.where(usable.view(-1, 1, 1, 1, 1), made.clamp(0, 1) - faces[:, None], 0)
    scores: dict[str, Tensor] = {}
    if gate is not None:
        seen = (faces + changes[:, -1] * face_mask(size).to(changes)).clamp(0, 1)
        scores = _scores(gate, faces, seen, target)
    values = {name: score.float().cpu().tolist() for name, score in scores.items()}
    entries: list[list[CacheEntry]] = []
    parts = torch.split(changes, [len(group) for group in groups])
    for group, c in zip(groups, parts, strict=True):
        pixels = _stack([face.pixels for face in group]).to(device)
        matrix = np.stack([face.matrix for face in group])
        # (faces, frames, h, w, C): the boxes with the changes in them
        boxes = [paste_back(pixels, c[:, k], matrix, group[0].box) for k in range(c.shape[1])]
        arrays = torch.stack(boxes, 1).permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()
        arrays = arrays[..., 0] if arrays.shape[-1] == 1 else arrays
        for face, patches in zip(group, arrays, strict=True):
            i = len(entries)
            given = {name: v[i] for name, v in values.items()}
            top, left, bottom, right = face.box
            if not usable[i]:
                reason = "out_of_range" if finite[i] else "not_finite"
                entries.append([CacheEntry(None, reason=reason)])
            elif np.array_equal(patches[-1], face.pixels[top:bottom, left:right]):
                entries.append([CacheEntry(None, reason="unchanged")])
            else:
                rest = [CacheEntry(patch, face.patch_origin) for patch in patches[:-1]]
                entries.append([*rest, CacheEntry(patches[-1], face.patch_origin, given)])
    return entries


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    """Return images of one size as (B, C, h, w) uint8."""
    pixels = torch.from_numpy(np.stack(arrays))
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


def _aligned(group: Sequence[FramedFace], device: torch.device) -> Tensor:
    """Return the aligned faces of a group, (B, 3, S, S) float in [0, 1]."""
    pixels = _stack([face.reduced for face in group]).to(device)
    matrices = np.stack([face.reduced_matrix for face in group])
    return align(pixels.float().div_(255), matrices, group[0].size).expand(-1, 3, -1, -1)


def _scores(gate: Gate, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return what the gate does, each score independent of the batch."""
    parts = [gate.score(*part) for part in independently(faces, synthetic, target)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _extra_inputs(
    framed: Sequence[FramedFace], requests: Sequence[SynthesisRequest], synthesizer: Synthesizer
) -> dict[str, Tensor]:
    """Return the keyword arguments that this synthesizer's forward takes."""
    extra: dict[str, Tensor] = {}
    if synthesizer.variants > 1:
        extra["variant"] = torch.tensor([request.variant for request in requests])
    if synthesizer.needs_landmarks:
        for name, arrays in stack_landmarks(framed).items():
            extra[name] = torch.from_numpy(arrays)
    return extra


def with_patch(image: np.ndarray, entry: CacheEntry) -> np.ndarray:
    """Return the image with an entry's patch in its place."""
    assert entry.patch is not None
    (top, left), (height, width) = entry.origin, entry.patch.shape[:2]
    if (height, width) == image.shape[:2]:
        return entry.patch
    changed = image.copy()
    changed[top : top + height, left : left + width] = entry.patch
    return changed
