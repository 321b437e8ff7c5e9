"""One face through the frames of a video: found near where it was, and held steady."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from expraug.errors import NoFaceError, warn
from expraug.faces.align import similarity
from expraug.faces.detect import DetectedFace, Detector, all_faces

_VIEW = 2.0
"""Side of the part of a frame in which the face is looked for first, in sides of its canonical
frame: all of the head, however it nods."""
_DRIFT, _GROWTH = 0.12, 1.15
"""How far the face may go from the middle of that part, in such sides, and how much larger or
smaller it may become, before the part follows: as long as it stays, a still face is seen alike."""
_REACH, _ALIKE = 0.75, 1.6
"""A face is the last one's again if its middle is not farther from it than this, in sides, and its
size not further from it than this factor; another is another person's, or behind a cut."""
BRIDGED = 0.2
"""Longest time, in seconds, over which a face that is not found is taken to have moved on as before
and after: a blurred frame or two, but no hand that passes over the face."""
_CHANCE, _LITTLE = 4.0, 1e-12
"""How many times its usual size trembling reaches by chance, and a size that is next to none."""
_BREADTH = 0.1
"""Standard deviation, in seconds, of the weights of the frames around each that its parabola is
fitted to: half of a syllable or of a blink."""


def track(
    frames: Iterable[np.ndarray], detector: Detector, face: int | None = None
) -> Iterator[DetectedFace | None]:
    """Yield where one face is in each frame; None where it is not found.

    It is the nearest to where it was in the last frame that showed it.

    Args:
        frames: (H, W, 3) or (H, W) uint8, of one size.
        detector: finds faces.
        face: which of the first frame with any: 0 for the largest, 1 for the next. None: the
            largest, with a warning where there are several.

    Raises:
        NoFaceError: none of that number there.
    """
    last: DetectedFace | None = None
    view: _View | None = None
    for image in frames:
        found: DetectedFace | None = None
        if last is None:
            (faces,) = all_faces(detector, [image])
            found = _first(faces, face) if faces else None
        else:
            if view is None or not view.holds(last):
                view = _View.around(last, image.shape)
            found = _nearest([view.detect(image, detector)], last)
            if found is None:
                (one,) = detector([image])
                several = one is not None and one.faces > 1
                found = _nearest(all_faces(detector, [image])[0] if several else [one], last)
        last = found or last
        yield found


def _first(faces: Sequence[DetectedFace], number: int | None) -> DetectedFace:
    if number is None and len(faces) > 1:
        warn(
            f"the video shows {len(faces)} faces: the largest is changed; choose it with face=0 "
            f"(--face 0), the others with 1 to {len(faces) - 1}"
        )
    if (number or 0) >= len(faces):
        raise NoFaceError(
            f"no face {number}: where the first is found there are {len(faces)}, counted from 0, "
            f"the largest first"
        )
    return faces[number or 0]


def _place(face: DetectedFace) -> tuple[np.ndarray, float]:
    """Return the middle of a face's canonical frame, (x, y), and the side of it, in pixels."""
    matrix = similarity(face.points[None].astype(np.float64))[0]
    return matrix @ (0.5, 0.5, 1.0), float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _nearest(faces: Iterable[DetectedFace | None], last: DetectedFace) -> DetectedFace | None:
    (middle, side), near = _place(last), []
    for face in faces:
        if face is None:
            continue
        there, size = _place(face)
        distance = float(np.linalg.norm(there - middle)) / side
        if distance <= _REACH and 1 / _ALIKE <= size / side <= _ALIKE:
            near.append((distance, face))
    return min(near, key=lambda pair: pair[0])[1] if near else None


@dataclass(frozen=True)
class _View:
    """The part of the frames in which a face is looked for, and the place it was cut for."""

    top: int
    left: int
    bottom: int
    right: int
    middle: np.ndarray
    side: float

    @classmethod
    def around(cls, face: DetectedFace, shape: Sequence[int]) -> _View:
        middle, side = _place(face)
        left, top = (max(0, int(v)) for v in np.round(middle - side * _VIEW / 2))
        right, bottom = (int(v) for v in np.round(middle + side * _VIEW / 2))
        return cls(top, left, min(bottom, shape[0]), min(right, shape[1]), middle, side)

    def holds(self, face: DetectedFace) -> bool:
        middle, side = _place(face)
        moved = float(np.linalg.norm(middle - self.middle)) / self.side
        return moved <= _DRIFT and 1 / _GROWTH <= side / self.side <= _GROWTH

    def detect(self, image: np.ndarray, detector: Detector) -> DetectedFace | None:
        part = np.ascontiguousarray(image[self.top : self.bottom, self.left : self.right])
        (face,) = detector([part]) if min(part.shape[:2]) else (None,)
        if face is None:
            return None
        corner = np.array((self.left, self.top), np.float32)
        mesh = None if face.mesh is None else face.mesh + corner
        return replace(face, points=face.points + corner, mesh=mesh)


def steady(
    faces: Sequence[DetectedFace | None], times: Sequence[float], *, breadth: float = _BREADTH
) -> list[DetectedFace | None]:
    """Return the faces of a video without the trembling of their landmarks.

    A parabola is fitted to what was found around each frame, before and after it (Savitzky and
    Golay 1964, with Gaussian weights): nothing lags behind, a turn of the head is not cut short,
    and frames of unequal length do no harm. What is further from it than the trembling of the
    whole video explains is a quick movement, as a blink, and stays (James and Stein 1961).

    Faces that are missing for at most `BRIDGED` seconds are put in; longer gaps stay, and nothing
    is smoothed across them.

    Args:
        faces: of T frames, as `track` yields them.
        times: of the frames, in seconds.
        breadth: standard deviation of the weights around each frame, in seconds.
    """
    made: list[DetectedFace | None] = [None] * len(faces)
    found = [i for i, face in enumerate(faces) if face is not None]
    for part in _uninterrupted(found, times):
        known = [face for face in (faces[i] for i in part) if face is not None]
        values = np.stack([face.pack().astype(np.float64).reshape(-1) for face in known])
        within = range(part[0], part[-1] + 1)
        at, wanted = (np.array([times[i] for i in some], np.float64) for some in (part, within))
        fitted = _smooth(values, at, wanted, breadth)
        for i, row in zip(within, fitted, strict=True):
            packed = np.ascontiguousarray(row.reshape(-1, 2), np.float32)
            made[i] = DetectedFace.unpack(packed, known[0].faces)
    return made


def _uninterrupted(found: Sequence[int], times: Sequence[float]) -> list[list[int]]:
    """Return the frames with a face, apart where it is missing for longer than is bridged."""
    parts: list[list[int]] = []
    for i in found:
        if parts and times[i] - times[parts[-1][-1] + 1] <= BRIDGED:
            parts[-1].append(i)
        else:
            parts.append([i])
    return parts


def _smooth(values: np.ndarray, at: np.ndarray, wanted: np.ndarray, breadth: float) -> np.ndarray:
    """Return (W, D) values at the wanted times, of the (N, D) that were found at others."""
    fit = [_weights(at, time, breadth, 2) for time in wanted]
    fitted = np.stack([row @ values[near] for near, row in fit])
    there = np.searchsorted(wanted, at)
    residual = values - fitted[there]
    # how much of it is left of trembling that has the variance 1
    left = np.array(
        [
            1 - 2 * row[i - near.start] + row @ row
            for i, (near, row) in enumerate(fit[k] for k in there)
        ]
    )[:, None]
    size = _by_point(residual**2)
    tremble = np.median(size / left.clip(_LITTLE), axis=0)
    points = slice(10, 10 + 2 * 478) if values.shape[1] > 10 else slice(0, 10)
    tremble[points] = np.median(tremble[points])  # a mouth that speaks does not count as trembling
    around = [_weights(at, time, breadth / 2, 0) for time in at]
    local = np.stack([row @ size[near] for near, row in around])
    own = 1 - _CHANCE * tremble * left / np.maximum(local, _LITTLE)
    fitted[there] += residual * own.clip(0)
    return fitted


def _weights(at: np.ndarray, time: float, breadth: float, degree: int) -> tuple[slice, np.ndarray]:
    """Return which values count for a time, and their weights in the polynomial's value there."""
    first, last = np.searchsorted(at, (time - 3.5 * breadth, time + 3.5 * breadth))
    if last - first <= degree:  # too slow a video to have trembled
        first = last = int(np.abs(at - time).argmin())
        last += 1
    away = (at[first:last] - time) / breadth
    weight = np.exp(-(away**2) / 4)  # a root: it stands on both sides
    powers = weight[:, None] * away[:, None] ** np.arange(min(degree, last - first - 1) + 1)
    row: np.ndarray = np.linalg.pinv(powers)[0] * weight
    return slice(int(first), int(last)), row


def _by_point(squares: np.ndarray) -> np.ndarray:
    """Return (N, D) squares, those of a point's x and y as their mean; scores stay alone."""
    made = squares.copy()
    points = slice(0, 10 if squares.shape[1] == 10 else 10 + 2 * 478)
    pairs = squares[:, points].reshape(len(squares), -1, 2).mean(2)
    made[:, points] = np.repeat(pairs, 2, axis=1)
    return made
