"""One face through a video: photographs under a moving camera, so that its way is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from expraug.errors import NoFaceError
from expraug.faces.detect import DetectedFace
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.track import BRIDGED, steady, track
from recipes.video.moving_camera import MovingCamera, moving_camera


@pytest.fixture(scope="module")
def detector() -> LandmarkDetector:
    return LandmarkDetector("detect")


@pytest.fixture(scope="module")
def camera(neutral_images: list[np.ndarray]) -> MovingCamera:
    return moving_camera([neutral_images[0]] * 16, sway=0.15)


@pytest.fixture(scope="module")
def followed(camera: MovingCamera, detector: LandmarkDetector) -> list[DetectedFace]:
    faces = [face for face in track(camera.frames, detector) if face is not None]
    assert len(faces) == len(camera.frames)
    return faces


def in_photograph(camera: MovingCamera, faces: list[DetectedFace]) -> np.ndarray:
    """Return the landmarks of each frame, (T, 478, 2), where they are in the photograph."""
    return np.stack([camera.still(i, np.asarray(f.mesh) + 0.5) for i, f in enumerate(faces)])


def trembling(values: np.ndarray) -> float:
    return float(np.sqrt((np.diff(values, 2, axis=0) ** 2).mean()))


def test_a_moving_face_is_followed(camera: MovingCamera, followed: list[DetectedFace]) -> None:
    places = in_photograph(camera, followed)
    assert np.ptp(camera.matrices[:, :, 2], axis=0).max() > 20, "it moves"
    assert np.abs(places - places.mean(0)).max() < 4, "pixels, of 256"


def test_what_is_steady_does_not_tremble(
    camera: MovingCamera, followed: list[DetectedFace]
) -> None:
    held = [face for face in steady(followed, list(camera.times)) if face is not None]
    before, after = in_photograph(camera, followed), in_photograph(camera, held)
    assert trembling(after) < trembling(before) / 3
    assert np.abs(after.mean(0) - before.mean(0)).max() < 0.5, "and is where it was"
    for name in ("blendshapes", "pose"):
        was, now = (np.stack([getattr(f, name) for f in faces]) for faces in (followed, held))
        assert trembling(now) < trembling(was) / 1.5


def test_nothing_lags_behind(followed: list[DetectedFace]) -> None:
    """A face that speeds up, without noise, is where it is."""
    face, times = followed[0], [i / 25 for i in range(20)]
    ways = [np.float32((300 * t * t, -40 * t)) for t in times]
    moving = [replace(face, points=face.points + w, mesh=np.asarray(face.mesh) + w) for w in ways]
    for found, known in zip(steady(moving, times), moving, strict=True):
        assert found is not None
        assert np.abs(np.asarray(found.mesh) - known.mesh).max() < 0.05


def test_a_blink_stays(camera: MovingCamera, followed: list[DetectedFace]) -> None:
    blinking = list(followed)
    for i, amount in ((7, 0.5), (8, 0.9), (9, 0.5)):
        scores = np.asarray(followed[i].blendshapes).copy()
        scores[9:11] = amount
        blinking[i] = replace(followed[i], blendshapes=scores)
    held = steady(blinking, list(camera.times))
    shut = [float(np.asarray(face.blendshapes)[9]) for face in held if face is not None]
    assert shut[8] > 0.8
    assert max(shut[:5] + shut[12:]) < 0.35


def test_gaps(camera: MovingCamera, followed: list[DetectedFace]) -> None:
    times = list(camera.times)
    short: list[DetectedFace | None] = [*followed[:5], None, None, *followed[7:]]
    held = steady(short, times)
    places = in_photograph(camera, [face for face in held if face is not None])
    known = in_photograph(camera, followed)
    assert len(places) == 16
    assert np.abs(places[5:7] - known[5:7]).max() < 4
    missing = range(5, 5 + int(BRIDGED * 25) + 2)
    long = [None if i in missing else face for i, face in enumerate(followed)]
    found = steady(long, times)
    assert [i for i, face in enumerate(found) if face is None] == list(missing)
    assert steady([None, *long, None], [-0.04, *times, 1.0])[0] is None
    alone = steady([followed[0]], [0.0])[0]
    assert alone is not None
    assert np.allclose(np.asarray(alone.mesh), followed[0].mesh)


@pytest.fixture(scope="module")
def two(neutral_images: list[np.ndarray]) -> list[np.ndarray]:
    """A large face on the left, and a smaller one on the right that goes its way."""
    frames = []
    for i in range(6):
        frame = np.full((300, 560, 3), 100, np.uint8)
        frame[20:276, 10:266] = neutral_images[0]
        frame[40:240, 300 + 8 * i : 500 + 8 * i] = neutral_images[1][28:228, 28:228]
        frames.append(frame)
    return frames


def test_whom_to_follow(two: list[np.ndarray], detector: LandmarkDetector) -> None:
    def middles(face: int | None) -> list[float]:
        return [float(f.points[:, 0].mean()) for f in track(two, detector, face) if f is not None]

    assert len(middles(0)) == 6
    assert max(middles(0)) < 200
    second = middles(1)
    assert len(second) == 6
    assert np.diff(second) == pytest.approx([8] * 5, abs=2)
    with pytest.warns(UserWarning, match="shows 2 faces: the largest is changed"):
        assert max(middles(None)) < 200
    with pytest.raises(NoFaceError, match="no face 2"):
        middles(2)


def test_another_face_is_not_the_same(two: list[np.ndarray], detector: LandmarkDetector) -> None:
    """Where the followed one goes out of sight, nobody else is taken for it."""
    hidden = [two[0], two[1], *(np.array(frame) for frame in two[2:4]), two[4]]
    for frame in hidden[2:4]:
        frame[:, 300:] = 100
    found = [face is not None for face in track(hidden, detector, 1)]
    assert found == [True, True, False, False, True]
