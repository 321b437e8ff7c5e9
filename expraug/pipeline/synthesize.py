"""From detected faces to what the cache keeps: aligned, synthesized, composited, scored.

Nothing else calls a synthesizer, but for the recipes that train one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from expraug.errors import NoFaceError
from expraug.exact import exact
from expraug.faces.batches import aligned, composited, ordered
from expraug.faces.composite import masked
from expraug.faces.detect import DetectedFace
from expraug.faces.frame import FramedFace, frame, stack_landmarks
from expraug.faces.pixels import Pixels
from expraug.faces.synthesized import SynthesizedFaces, moving
from expraug.gate import Gate
from expraug.networks.batching import independently
from expraug.pipeline.requests import SynthesisRequest
from expraug.pipeline.synthetic import Synthetic
from expraug.synthesizer import Synthesizer
from expraug.threads import map_threads, single_threaded

COMPOSITING_VERSION = 6
"""Raised when alignment or compositing gives other pixels, or other faces are refused; part of
every cache key."""
MOST_TURNED = 35.0
"""Degrees of yaw or pitch beyond which a face is refused by synthesizers that need landmarks: half
of it is out of sight, landmarks there are guesses, and what follows them folds over the nose."""
TURNED_AWAY = "turned_away"

_OVERSHOOT = 0.5
"""What leaves [0, 1] by more is no picture: of a broken synthesizer, or in another range."""
_FARTHEST = 1.0
"""Sides of the canonical frame beyond which no flow points: it is in other units."""
_CHECKED = 4  # faces at a time on the CPU
_PIECE_BYTES = 32 << 20
"""Pixels of the faces that are worked on together: of large ones, one at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What all frames of a video have in common, so that its face does not jump.

    Args:
        size: side of the aligned faces, in pixels.
        inputs: keyword arguments of the synthesizer, of one row each (`Synthesizer.settle`).
    """

    size: int
    inputs: Mapping[str, Tensor]


def settle(
    image: Pixels, face: DetectedFace, request: SynthesisRequest, synthesizer: Synthesizer
) -> Settled:
    """Return what all frames of a video are to have in common.

    Args:
        image: a usual frame of it.
        face: in it.
        request: of all frames.
        synthesizer: makes them.
    """
    size = synthesizer.image_size
    framed = frame(image, face, size, synthesizer.size_agnostic)
    device = next(iter(synthesizer.state_dict().values())).device
    extra = {k: v.to(device) for k, v in _extra_inputs([framed], [request], synthesizer).items()}
    target = torch.tensor([int(request.target)], device=device)
    variant = extra.pop("variant", torch.zeros_like(target))
    return Settled(framed.size, synthesizer.settle(target, variant, **extra))


def refusal(face: DetectedFace | None, synthesizer: Synthesizer) -> str:
    """Return why nothing is made of a face: "no_face" or "turned_away"; "" if it can be."""
    if face is None:
        return NoFaceError.reason
    if synthesizer.needs_landmarks and face.pose is not None:
        yaw, pitch = face.pose[:2]
        if max(abs(yaw), abs(pitch)) > MOST_TURNED:
            return TURNED_AWAY
    return ""


@torch.inference_mode()
def synthesize(
    images: Sequence[Pixels],
    faces: Sequence[DetectedFace | None],
    requests: Sequence[SynthesisRequest],
    synthesizer: Synthesizer,
    gate: Gate | None,
    *,
    device: torch.device,
    batch_size: int,
    frames: int | None = None,
    settled: Settled | None = None,
) -> list[list[Synthetic]]:
    """Make synthetic faces, or clips of them.

    Args:
        images: on the device, on the CPU as arrays or tensors (`on_device`); sizes may differ.
        faces: in them; None where there is none.
        requests: what to make of each; the intensity of a clip is ignored.
        synthesizer: makes them; it is moved to the device.
        gate: scores them, if any; of a clip, the last frame.
        device: where synthesizer and gate run.
        batch_size: faces per batch.
        frames: of each clip, at least 2; None makes one picture of each image.
        settled: what all images have in common, being frames of one video.

    Returns:
        For each image its frames (one without `frames`): the changed box, and scores in the last.
        Or a single one without a picture and with a reason: what `refusal` says of the face;
        "not_finite" or "out_of_range", what the synthesizer made is no picture; or "unchanged", it
        equals its source; or a reason of the synthesizer's own (`SynthesizedFaces.refused`).
    """
    weights = [*synthesizer.parameters(), *synthesizer.buffers()]
    # what was loaded in inference mode moves in it alone; the others may be trained later
    with torch.inference_mode(any(one.is_inference() for one in weights)):
        synthesizer = synthesizer.to(device)
    entries = [[Synthetic(None, reason=refusal(face, synthesizer))] for face in faces]
    size, agnostic = synthesizer.image_size, synthesizer.size_agnostic
    if settled is not None:
        size, agnostic = settled.size, False
    framed = [
        (i, frame(image, face, size, agnostic))
        for i, (image, face) in enumerate(zip(images, faces, strict=True))
        if face is not None and not entries[i][0].reason
    ]
    framed = [framed[k] for k in ordered([face for _, face in framed])]
    with single_threaded() as threads:
        for _, of_one_size in groupby(framed, lambda pair: pair[1].size):
            pieces = list(
                _pieces(list(of_one_size), batch_size if frames is None else 1, threads, device)
            )

            def make(piece: Sequence[tuple[int, FramedFace]]) -> list[list[Synthetic]]:
                asked = [requests[i] for i, _ in piece]
                batch = [face for _, face in piece]
                with exact(device):  # which, too, holds for one thread
                    return _batch(batch, asked, synthesizer, gate, device, frames, settled)

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
    settled: Settled | None,
) -> list[list[Synthetic]]:
    """Synthesize faces of one aligned size, alike ones beside each other."""
    faces = aligned(framed, device)
    target = torch.tensor([int(request.target) for request in requests], device=device)
    extra = _extra_inputs(framed, requests, synthesizer)
    if settled is not None:
        extra |= {k: v.expand(len(framed), *v.shape[1:]) for k, v in settled.inputs.items()}
    extra = {k: v.to(device) for k, v in extra.items()}
    if frames is None:
        intensity = torch.tensor([request.intensity for request in requests], device=device)
        made = [synthesizer.synthesize(faces, target, intensity, **extra)]
    else:
        made = synthesizer.synthesize_clip(faces, target, frames, **extra)
    finite, usable = _checked(made, faces)
    made = [one.kept(usable) for one in made]
    scores: dict[str, Tensor] = {}
    if gate is not None:
        scores = _scores(gate, faces, masked(made[-1]).render(faces), target)
    patches, unchanged = composited(framed, made)
    moves = moving(made)
    refused = made[-1].refused
    columns = (finite, usable, unchanged, *refused.values(), *scores.values())
    # the one time that the host waits for a device here
    told = torch.stack([column.float().to(device) for column in columns])
    found: list[list[Synthetic]] = []
    for face, boxes, (is_finite, is_usable, is_unchanged, *values) in zip(
        framed, patches, told.T.tolist(), strict=True
    ):
        if not is_usable:
            found.append([Synthetic(None, reason="out_of_range" if is_finite else "not_finite")])
        elif reasons := [r for r, holds in zip(refused, values, strict=False) if holds]:
            found.append([Synthetic(None, reason=reasons[0])])
        elif is_unchanged:
            found.append([Synthetic(None, reason="unchanged")])
        else:
            given = dict(zip(scores, values[len(refused) :], strict=True))
            *rest, last = boxes
            made_of_one = [Synthetic(patch, face.patch_origin(moves)) for patch in rest]
            found.append([*made_of_one, Synthetic(last, face.patch_origin(moves), given)])
    return found


def _checked(made: Sequence[SynthesizedFaces], faces: Tensor) -> tuple[Tensor, Tensor]:
    """Return of which faces everything is finite, and which of these can be pictures: (B,) bool."""
    finite, usable = (faces.new_ones(len(faces), dtype=torch.bool) for _ in range(2))
    # few at a time, so that they stay in a core's cache
    step = _CHECKED if faces.device.type == "cpu" else max(1, len(faces))
    for start in range(0, len(faces), step):
        rows = slice(start, start + step)
        _check([one.part(rows) for one in made], faces[rows], finite[rows], usable[rows])
    return finite, usable


def _check(made: Sequence[SynthesizedFaces], faces: Tensor, finite: Tensor, usable: Tensor) -> None:
    """Note which faces fail, in place."""

    def check_range(tensor: Tensor | None, low: float, high: float) -> None:
        if tensor is not None:
            # NaN where anything is; `aminmax` takes many times as long
            least, most = tensor.amin((1, 2, 3)), tensor.amax((1, 2, 3))
            finite.logical_and_(least.isfinite() & most.isfinite())
            usable.logical_and_(finite & (least >= low) & (most <= high))

    for one in made:
        check_range(one.change, -1 - _OVERSHOOT, 1 + _OVERSHOOT)
        check_range(one.flow, -_FARTHEST, _FARTHEST)
        check_range(one.matte, -_OVERSHOOT, 1 + _OVERSHOOT)
        fine = usable.device.type == "cpu" and bool(usable.all())
        shown = one if fine else one.kept(usable)
        check_range(shown.blend(faces, "bilinear"), -_OVERSHOOT, 1 + _OVERSHOOT)


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
