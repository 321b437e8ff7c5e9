"""Videos through the pipeline: real faces that smile and speak under a moving camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import expraug
from expraug import ExpressionAugmenter, augment_video
from expraug.errors import (
    NoFaceError,
    RejectedError,
    UnreadableVideoError,
    UnsupportedExpressionError,
)
from expraug.evaluate.landmarks import without_pose
from expraug.faces.image_file import provenance
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.video_file import open_video, write_video
from expraug.pipeline import video as pipeline
from recipes.video.moving_camera import moving_camera

COUNT = 24


def save(frames: list[np.ndarray], path: Path) -> Path:
    times = np.arange(len(frames)) / 25
    write_video(frames, path, times=times, fps=25, xmp=provenance("", "", 1, ""))
    return path


def load(path: Path) -> np.ndarray:
    return np.stack([frame for _, frame in open_video(path)])


@pytest.fixture(scope="module")
def filmed(neutral_images: list[np.ndarray]) -> list[np.ndarray]:
    return list(moving_camera([neutral_images[0]] * COUNT, size=(240, 300)).frames)


@pytest.fixture(scope="module")
def folder(filmed: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames as PNG, so that what is not changed must be the same to the bit."""
    return save(filmed, tmp_path_factory.mktemp("video") / "frames")


@pytest.fixture(scope="module")
def smiling(folder: Path) -> tuple[expraug.pipeline.VideoReport, np.ndarray]:
    out = folder.parent / "smiling"
    report = augment_video(folder, "neutral", "happy", out, onset=0.4, variant=3)
    return report, load(out)


def test_the_face_smiles(
    folder: Path, filmed: list[np.ndarray], smiling: tuple[Any, np.ndarray]
) -> None:
    report, made = smiling
    assert (report.frames, report.kept, report.bridged, report.silent) == (COUNT, {}, 0, "")
    assert report.fps == 25
    assert report.changed >= COUNT - 2
    assert np.array_equal(made[0], filmed[0]), "the expression has not come yet"
    before, after = (LandmarkDetector("detect")(list(some)) for some in (filmed, made))
    smile = [
        [float(np.asarray(face.blendshapes)[44:46].mean()) for face in some if face is not None]
        for some in (before, after)
    ]
    gain = np.subtract(smile[1], smile[0])
    assert gain[:3].max() < gain[12:].min()
    assert gain[12:].min() > 0.2
    assert np.abs(made.astype(int) - filmed)[:, :, :8].max() == 0, "nothing changes beside the face"


def test_it_is_steady(filmed: list[np.ndarray], smiling: tuple[Any, np.ndarray]) -> None:
    """What the smile adds to the landmarks changes less over time than image by image."""
    detector = LandmarkDetector("detect")
    augmenter = ExpressionAugmenter(alignment="detect", check_landmarks=False)
    request = expraug.SynthesisRequest("happy", variant=3)
    alone = [o.image for o in augmenter(filmed[12:], [request] * (COUNT - 12))]

    def mouths(frames: Any) -> np.ndarray:
        meshes = np.stack([face.mesh for face in detector(list(frames)) if face is not None])
        return without_pose(meshes)[0][:, [61, 291, 0, 17, 13, 14]]

    rest = mouths(filmed[12:])
    jumps = [np.diff(mouths(some) - rest, 2, axis=0) for some in (smiling[1][12:], alone)]
    steady, shaking = (float(np.sqrt((jump**2).mean())) for jump in jumps)
    assert steady < 0.7 * shaking


def test_the_same_video_gives_the_same_bytes(
    folder: Path, tmp_path: Path, smiling: tuple[Any, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_CHUNK_FRAMES", 7)
    augment_video(folder, "neutral", "happy", tmp_path / "again", onset=0.4, variant=3)
    assert np.array_equal(load(tmp_path / "again"), smiling[1])


def test_frames_without_a_face_stay(filmed: list[np.ndarray], tmp_path: Path) -> None:
    frames = [frame.copy() for frame in filmed]
    hidden = [5, *range(12, 20)]
    for i in hidden:
        frames[i][:] = 90
    save(frames, tmp_path / "frames")
    steps = Counter[str]()
    last = (0, 1)

    def progress(step: str, done: int, total: int) -> None:
        nonlocal last
        assert done / total >= last[0] / last[1]
        steps[step] += 1
        last = done, total

    report = augment_video(
        tmp_path / "frames", None, "surprise", tmp_path / "out", progress=progress
    )
    assert report.kept == {"no_face": list(range(12, 20))}
    assert report.bridged == 1
    assert len(steps) == 3
    assert last == (3 * COUNT, 3 * COUNT)
    made = load(tmp_path / "out")
    change = np.abs(made.astype(int) - np.stack(frames)).mean((1, 2, 3))
    assert (change[12:20] == 0).all()
    assert change[5] > 0.1, "a single frame is no reason to drop it"
    assert change[2] > 2 * change[10] > 0, "it goes before the face is lost"


def test_a_head_that_turns_away(folder: Path, tmp_path: Path) -> None:
    class Turned:
        fingerprint, constant, landmarks, tensors = "turned", False, True, True

        def __init__(self, first: int) -> None:
            self.first, self.seen, self.detector = first, 0, LandmarkDetector("detect")

        def __call__(self, images: Any) -> Any:
            (face,) = self.detector(images)
            self.seen += 1
            if face is not None and self.seen > self.first:
                face.pose[0] = 60
            return [face]

    report = augment_video(folder, None, "happy", tmp_path / "out", alignment=Turned(15))
    (kept,) = report.kept.values()
    assert list(report.kept) == ["turned_away"]
    assert kept[-1] == COUNT - 1
    assert abs(kept[0] - 15) <= 1
    with pytest.raises(RejectedError, match="turned_away"):
        augment_video(folder, None, "happy", tmp_path / "no", alignment=Turned(0))


class NotInTheDark:
    """A gate that refuses what is dark."""

    fingerprint = "not-in-the-dark"

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"brightness": synthetic.mean((1, 2, 3))}

    def rejection(self, scores: Mapping[str, float]) -> str:
        return "dark" if scores["brightness"] < 0.25 else ""


def test_what_the_gate_refuses_stays(filmed: list[np.ndarray], tmp_path: Path) -> None:
    frames = [*filmed[:12], *(frame // 2 for frame in filmed[12:])]
    save(frames, tmp_path / "frames")
    options: dict[str, Any] = {"gate": NotInTheDark(), "check_landmarks": False}
    report = augment_video(tmp_path / "frames", None, "happy", tmp_path / "out", **options)
    assert list(report.kept) == ["dark"]
    kept = report.kept["dark"]
    assert set(range(15, COUNT)) <= set(kept)
    assert min(kept) >= 9
    made = load(tmp_path / "out")
    assert all(np.array_equal(made[i], frames[i]) for i in kept)
    assert not np.array_equal(made[3], frames[3])
    save([frame // 2 for frame in filmed[:4]], tmp_path / "dark")
    with pytest.raises(RejectedError, match="happy cannot be used: dark"):
        augment_video(tmp_path / "dark", None, "happy", tmp_path / "no", **options)


def test_any_synthesizer(filmed: list[np.ndarray], tmp_path: Path) -> None:
    source, out = save(filmed[:5], tmp_path / "frames"), tmp_path / "new.gif"
    report = augment_video(
        source, "neutral", "happy", out, synthesizer="unet_cgan", check_landmarks=False
    )
    assert report.changed == len(load(out)) == 5


def test_refused(folder: Path, tmp_path: Path) -> None:
    def fails(**options: Any) -> None:
        augment_video(
            **{"video": folder, "source": None, "target": "happy", "out": tmp_path / "a.gif"}
            | options
        )

    with pytest.raises(UnreadableVideoError, match=r"none\.mp4"):
        fails(video=tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="a video is written as"):
        fails(out=tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="onset"):
        fails(onset=-1)
    with pytest.raises(ValueError, match="face"):
        fails(face=-1)
    with pytest.raises(ValueError, match="intensity"):
        fails(intensity=2)
    with pytest.raises(UnsupportedExpressionError, match="of a face that shows happy"):
        fails(source="happy", synthesizer="fevgan")
    save([np.full((120, 120, 3), 90, np.uint8)] * 3, tmp_path / "grey")
    with pytest.raises(NoFaceError, match="no face in any of 3 frames"):
        fails(video=tmp_path / "grey")
    assert [p.name for p in tmp_path.iterdir()] == ["grey"]
