"""A video in, the same video with another expression on one of its faces out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from expraug.errors import NoFaceError, failure
from expraug.expressions import Expression
from expraug.faces.detect import DetectedFace, Detector, KnownFaceDetector
from expraug.faces.image import MAX_PIXELS
from expraug.faces.image_file import provenance
from expraug.faces.pixels import on_device
from expraug.faces.track import steady, track
from expraug.faces.video_file import VideoFile, check_out, open_video, write_video
from expraug.gate import Gate, GateLike
from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.guess import warn_of_source
from expraug.pipeline.requests import SynthesisRequest
from expraug.pipeline.synthesize import TURNED_AWAY, Settled, refusal, settle, synthesize
from expraug.pipeline.synthetic import Synthetic, beside, with_patch
from expraug.progress import Progress, silent
from expraug.synthesizer import AUTO, Synthesizer

EASE = 0.3
"""Seconds in which the expression goes before a frame that stays as it is, and comes after it."""
_LOOK = 0.25
"""Seconds of which two frames are shown to the gate: a usual one, and the one that moved most."""
_CHUNK_BYTES = 128 << 20  # of frames that are in memory at once
_CHUNK_FRAMES = 32


@dataclass(frozen=True)
class VideoReport:
    """What became of a video.

    Args:
        frames: their number.
        fps: frames per second, on average.
        changed: how many show the other expression, if only as it comes or goes.
        kept: for each reason, the numbers of the frames that stayed as they were: "no_face",
            "turned_away", or what the gate or the synthesizer refuses them for.
        bridged: how many frames of the changed ones lie between two in which the face was found.
        silent: why the sound was dropped, where there was any; else "".
    """

    frames: int
    fps: float
    changed: int
    kept: Mapping[str, Sequence[int]]
    bridged: int = 0
    silent: str = ""


def augment_video(
    video: str | os.PathLike[str],
    source: Expression | str | None,
    target: Expression | str,
    out: str | os.PathLike[str],
    *,
    intensity: float = 1.0,
    onset: float = 0.0,
    variant: int = 0,
    synthesizer: str | Synthesizer = AUTO,
    face: int | None = None,
    alignment: str | Detector = "detect",
    gate: GateLike = None,
    check_landmarks: bool = True,
    fps: float | None = None,
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = silent,
) -> VideoReport:
    """Write a video in which one face has another expression; whoever it is may talk and move.

    The face is followed from frame to frame and its landmarks are smoothed over time; one exemplar
    is chosen for the whole video; what changes is composited into each frame at its own resolution.
    Where the face is not found or turned away, or the gate refuses what was made of it, frames stay
    as they are; the expression goes before them and comes back after them.

    Memory does not grow with the pixels of a video, which is read several times.

    Args:
        video: .mp4, .mov, .webm and what else PyAV decodes; .gif, .webp; or a folder of frames.
        source: what the face shows on the whole; None if that is not known.
        target: what it is to show.
        out: .mp4, which keeps the sound, .gif or .webp; without a suffix, a new folder of frames.
        intensity: in [0.01, 1], once the expression is there.
        onset: seconds that it takes to come; 0: it is there from the first frame.
        variant: of the synthesizer's `variants`, counted from 0.
        synthesizer: as `create_synthesizer` takes it, or one.
        face: of several in the first frame with any: 0 for the largest, 1 for the next. None: the
            largest, with a warning where there are several.
        alignment: "detect", "crop" for videos of face crops, or a `Detector`.
        gate, check_landmarks: what refuses frames, as `ExpressionAugmenter` takes them.
        fps: frames per second of a folder; None: 25.
        device: where all of it runs.
        max_pixels: limit on the width x height of a frame.
        progress: called with the name of each step, and how much of all work is done, of how much.

    Returns:
        What became of the frames.

    Raises:
        UnreadableVideoError, ImageTooLargeError: no video, a damaged one, or larger frames.
        NoFaceError: no face in any frame, or none of that number.
        RejectedError: all that was made is refused; `reason` says why in most frames.
        UnsupportedExpressionError: the synthesizer cannot make the target, or not of the source.
        LabelError, MissingWeightsError, MissingDependencyError: no such expression, no such
            synthesizer, or PyAV is not installed.
        ValueError: an argument out of range, or a suffix that is not written.
        OSError: the file cannot be written.
    """
    if not onset >= 0:
        raise ValueError(f"onset must be 0 or more seconds, not {onset}")
    if face is not None and face < 0:
        raise ValueError(f"face must be 0 or more, not {face}")
    request = SynthesisRequest(Expression.parse(target), intensity, variant)
    path = Path(out)
    check_out(path)
    file = open_video(video, fps=fps, max_pixels=max_pixels)
    augmenter = ExpressionAugmenter(
        synthesizer,
        alignment=alignment,
        gate=gate,
        check_landmarks=check_landmarks,
        device=device,
    )
    shown = None if source is None else Expression.parse(source)
    augmenter.require([request.target], shown, variant)
    work = _Work(augmenter, file, request, shown, progress)
    work.follow(face)
    work.detect()
    xmp = provenance(
        augmenter.fingerprint.synthesizer, str(request.target), request.intensity, file.path.stem
    )
    silent = write_video(
        work.changed(onset),
        path,
        times=work.times,
        fps=file.fps,
        xmp=xmp,
        sound=file.path if file.sound else None,
    )
    return work.report(silent)


@dataclass
class _Work:
    """One video on its way: first the face is followed, then looked at, then changed.

    Attributes:
        times: of the frames, in seconds.
        faces: in the frames; None where it stays as it is.
        reasons: of each frame, why it stays as it is, or "".
    """

    augmenter: ExpressionAugmenter
    file: VideoFile
    request: SynthesisRequest
    shown: Expression | None
    progress: Progress
    times: list[float] = field(default_factory=list)
    faces: list[DetectedFace | None] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    bridged: set[int] = field(default_factory=set)
    made: int = 0
    settled: Settled | None = None

    def follow(self, face: int | None) -> None:
        """Find the face in each frame, and hold it steady."""
        told = self.file.count

        def frames() -> Iterator[np.ndarray]:
            for time, frame in self.file:
                self.progress("following the face", len(self.times), 3 * told)
                self.times.append(time)
                yield frame

        found = list(track(frames(), self.augmenter.detector, face))
        self.faces = steady(found, self.times)
        if all(face is None for face in found):
            raise NoFaceError(
                f"{self.file.path}: no face in any of {len(found)} frames; for videos of face "
                f"crops, use alignment='crop' (--alignment crop)"
            )
        held = zip(found, self.faces, strict=True)
        self.bridged = {i for i, (was, now) in enumerate(held) if was is None and now is not None}
        self.reasons = [refusal(face, self.augmenter.synthesizer) for face in self.faces]

    def detect(self) -> None:
        """Choose what all frames have in common, and find the frames that are refused."""
        usable = [i for i, reason in enumerate(self.reasons) if not reason]
        if not usable:
            raise failure(TURNED_AWAY, {}, f"{self.file.path}: {self.request.target}", ())
        wanted = {*self._looked_at(usable), usual := self._usual(usable)}
        frame = next(islice((frame for _, frame in self.file), usual, None))
        face = self.faces[usual]
        assert face is not None
        if self.shown is None:
            there = ExpressionAugmenter(
                self.augmenter.synthesizer,
                alignment=KnownFaceDetector(face),
                device=self.augmenter.device,
            )
            warn_of_source(there, frame, self.request.target)
        self.settled = settle(frame, face, self.request, self.augmenter.synthesizer)
        verdicts = dict[int, str]()
        gate = self.augmenter.gate
        for numbers, frames in self._chunks("looking at it", 1, wanted):
            made = self._synthesize(numbers, frames, [self.request] * len(frames), gate)
            for number, result in zip(numbers, made, strict=True):
                refused = gate.rejection(result.scores) if gate and result.scores else ""
                verdicts[number] = result.reason or refused
        if all(verdicts.values()):
            often = max(verdicts.values(), key=list(verdicts.values()).count)
            raise failure(often, {}, f"{self.file.path}: {self.request.target}", frame.shape)
        looked = np.array(sorted(verdicts))
        for i in usable:  # the nearest one that was looked at speaks for it
            nearest = looked[np.abs(looked - i).argmin()]
            self.reasons[i] = verdicts[int(nearest)]

    def changed(self, onset: float) -> Iterator[np.ndarray]:
        """Yield the frames of the new video."""
        requests = [self._at(share) for share in self._shares(onset)]
        for numbers, frames in self._chunks("changing it", 2, range(len(self.times))):
            asked = [k for k, number in enumerate(numbers) if requests[number] is not None]
            results = dict(
                zip(
                    asked,
                    self._synthesize(
                        [numbers[k] for k in asked],
                        [frames[k] for k in asked],
                        [request for k in asked if (request := requests[numbers[k]])],
                        None,
                    ),
                    strict=True,
                )
            )
            placed = beside(frames, [results.get(k) for k in range(len(frames))])
            for number, frame, result in zip(numbers, frames, placed, strict=True):
                if result is None or result.patch is None:
                    if result is not None and result.reason != "unchanged":
                        self.reasons[number] = result.reason
                    yield frame
                else:
                    self.made += 1
                    pasted = with_patch(frame, result)
                    assert isinstance(pasted, np.ndarray)
                    yield pasted

    def report(self, silent: str) -> VideoReport:
        kept: dict[str, list[int]] = {}
        for i, reason in enumerate(self.reasons):
            if reason:
                kept.setdefault(reason, []).append(i)
        bridged = sum(not self.reasons[i] for i in self.bridged)
        return VideoReport(len(self.times), self.file.fps, self.made, kept, bridged, silent)

    def _shares(self, onset: float) -> np.ndarray:
        """Return how much of the expression each frame shows, (T,) in [0, 1]."""
        times = np.array(self.times) - self.times[0]
        shares = np.ones(len(times)) if onset == 0 else _rise(times / onset)
        still = times[[bool(reason) for reason in self.reasons]]
        if len(still):
            after = np.searchsorted(still, times)
            away = np.minimum(
                np.abs(times - still[(after - 1).clip(0)]),
                np.abs(still[after.clip(max=len(still) - 1)] - times),
            )
            shares = shares * _rise(away / EASE)
        return shares

    def _at(self, share: float) -> SynthesisRequest | None:
        percent = round(share * self.request.percent)
        target, variant = self.request.target, self.request.variant
        return SynthesisRequest(target, percent / 100, variant) if percent else None

    def _looked_at(self, usable: Sequence[int]) -> Iterator[int]:
        """Yield the frames that the gate sees: of each part of the video two."""
        parts: dict[int, list[int]] = {}
        for i in usable:
            parts.setdefault(int((self.times[i] - self.times[0]) / _LOOK), []).append(i)
        looks = {i: _look(face) for i in usable if (face := self.faces[i]) is not None}
        usual = np.median(np.stack(list(looks.values())), axis=0)
        for part in parts.values():
            yield part[len(part) // 2]
            yield max(part, key=lambda i: float(np.abs(looks[i] - usual).sum()))

    def _usual(self, usable: Sequence[int]) -> int:
        """Return the frame in which the head is turned as it is on the whole."""
        poses = {i: face.pose for i in usable if (face := self.faces[i]) and face.pose is not None}
        if not poses:
            return usable[len(usable) // 2]
        middle = np.median(np.stack(list(poses.values())), axis=0)
        return min(poses, key=lambda i: float(np.abs(poses[i] - middle).sum()))

    def _chunks(
        self, step: str, steps_before: int, wanted: Iterable[int]
    ) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        """Yield numbers and pixels of frames, so many as may be in memory together."""
        numbers, frames, there = list[int](), list[np.ndarray](), set(wanted)
        count = len(self.times)
        for number, (_, frame) in enumerate(self.file):
            if number in there:
                numbers.append(number)
                frames.append(frame)
            room = min(_CHUNK_FRAMES, max(1, _CHUNK_BYTES // frame.nbytes))
            if len(frames) == room or (frames and number == count - 1):
                yield numbers, frames
                numbers, frames = [], []
                self.progress(step, steps_before * count + number + 1, 3 * count)

    def _synthesize(
        self,
        numbers: Sequence[int],
        frames: Sequence[np.ndarray],
        requests: Sequence[SynthesisRequest],
        gate: Gate | None,
    ) -> list[Synthetic]:
        made = synthesize(
            on_device(frames, self.augmenter.device),
            [self.faces[number] for number in numbers],
            requests,
            self.augmenter.synthesizer,
            gate,
            device=self.augmenter.device,
            batch_size=self.augmenter.batch_size,
            settled=self.settled,
        )
        return [one for (one,) in made]


def _look(face: DetectedFace) -> np.ndarray:
    """Return what tells how a face differs from what it is on the whole."""
    return face.points.ravel() if face.blendshapes is None else face.blendshapes


def _rise(time: np.ndarray) -> np.ndarray:
    """Return how far an expression has come: slowly, then fast, then slowly, from 0 at 0 to 1."""
    rise: np.ndarray = 0.5 - 0.5 * np.cos(math.pi * time.clip(0, 1))
    return rise
