"""Clips as files, decoded again."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from expraug import ExpressionAugmenter
from expraug.errors import MissingDependencyError
from expraug.faces.clip_file import write_clip
from expraug.faces.image_file import DIGITAL_SOURCE_TYPE


@pytest.fixture(scope="module")
def clip(neutral_images: list[np.ndarray]) -> np.ndarray:
    return ExpressionAugmenter("pixel").clip(neutral_images[0], "neutral", "happy", 5)


def written(clip: np.ndarray, path: Path) -> Path:
    write_clip(clip, path, fps=10, fingerprint="pixel-1", target="happy", source='ann "1" & co')
    return path


def marks(text: str) -> bool:
    return all(
        word in text for word in (DIGITAL_SOURCE_TYPE, "pixel-1", "happy", "ann &quot;1", "&amp;")
    ) or all(word in text for word in (DIGITAL_SOURCE_TYPE, "pixel-1", "happy", 'ann "1"', "&amp;"))


def test_mp4(clip: np.ndarray, tmp_path: Path) -> None:
    with av.open(str(written(clip, tmp_path / "new" / "clip.mp4"))) as container:
        assert marks(container.metadata["comment"])
        stream = container.streams.video[0]
        assert stream.average_rate == 10
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)])
    assert frames.shape == (5, 256, 256, 3)
    difference = np.abs(frames.transpose(0, 3, 1, 2).astype(int) - clip)
    assert difference.mean() < 4, "only the codec's losses"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["clip.mp4"]


def test_the_same_clip_gives_the_same_mp4(clip: np.ndarray, tmp_path: Path) -> None:
    first, second = (written(clip, tmp_path / f"{i}.mp4").read_bytes() for i in (0, 1))
    assert first == second


def test_odd_grey_mp4(clip: np.ndarray, tmp_path: Path) -> None:
    odd = clip[:, :1, :255, :253]
    with av.open(str(written(odd, tmp_path / "clip.mp4"))) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert frames.shape == (5, 256, 254, 3)
    assert np.abs(frames[:, :255, :253, 0].astype(int) - odd[:, 0]).mean() < 4
    assert np.abs(np.ptp(frames, axis=3)).max() <= 4, "grey stays grey"


def test_gif(clip: np.ndarray, tmp_path: Path) -> None:
    with Image.open(written(clip, tmp_path / "clip.gif")) as image:
        assert image.n_frames == 4, "the last two are the same, and shown as one"
        assert image.info["loop"] == 0
        assert image.info["duration"] == 100
        assert marks(image.info["comment"].decode())
        image.seek(3)
        assert image.info["duration"] == 200
        last = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.abs(last.astype(int) - clip[-1]).mean() < 8, "only the palette's losses"


@pytest.mark.parametrize("channels", [1, 3])
def test_strip(clip: np.ndarray, tmp_path: Path, channels: int) -> None:
    with Image.open(written(clip[:, :channels], tmp_path / "clip.png")) as image:
        assert marks(image.info["xmp"].decode() if "xmp" in image.info else "")
        strip = np.asarray(image.convert("RGB"))
    assert strip.shape == (256, 5 * 256, 3)
    for k, frame in enumerate(clip[:, :channels]):
        shown = strip[:, 256 * k : 256 * (k + 1)].transpose(2, 0, 1)
        assert np.array_equal(shown, np.broadcast_to(frame, shown.shape))


def test_refused(clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for frames in (clip[0], clip / 255, clip[:0], clip.transpose(0, 2, 3, 1)):
        with pytest.raises(ValueError, match="frames must be"):
            write_clip(frames, tmp_path / "clip.gif")
    with pytest.raises(ValueError, match=r"\.mp4, \.gif, \.webp, \.png"):
        write_clip(clip, tmp_path / "clip.webm")
    with pytest.raises(ValueError, match="fps"):
        write_clip(clip, tmp_path / "clip.gif", fps=0)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"expraug\[video\]"):
        write_clip(clip, tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())
