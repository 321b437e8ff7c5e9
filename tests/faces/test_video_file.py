"""Videos as files: what players show is what is read, and what is written can be played."""

from __future__ import annotations

import struct
import sys
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from expraug.errors import (
    ExpraugError,
    ImageTooLargeError,
    MissingDependencyError,
    UnreadableImageError,
    UnreadableVideoError,
)
from expraug.faces.image_file import DIGITAL_SOURCE_TYPE, provenance
from expraug.faces.video_file import open_video, write_video

XMP = provenance("pixel-1", "happy", 1.0, "ann")
TIMES = [0.0, 0.04, 0.2, 0.24, 0.28, 0.32]  # the second frame stands long


@pytest.fixture(scope="module")
def frames(neutral_images: list[np.ndarray]) -> list[np.ndarray]:
    return [image[:160, :144] for image in neutral_images[:6]]


def written(frames: list[np.ndarray], path: Path) -> Path:
    assert write_video(iter(frames), path, times=TIMES, fps=15, xmp=XMP) == ""
    return path


def with_sound(frames: list[np.ndarray], path: Path, codec: str) -> Path:
    """Write a video with a tone."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264" if codec != "libvorbis" else "libvpx", rate=25)
        pictures.height, pictures.width = frames[0].shape[:2]
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=48000)
        sound.layout = "mono"
        for frame in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(pictures.encode(None))
        tone = 8000 * np.sin(np.arange(11520) * 2 * np.pi * 440 / 48000)
        for k in range(0, len(tone), 960):
            part = tone[None, k : k + 960].astype(np.int16)
            heard = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            heard.sample_rate, heard.pts = 48000, k
            container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    return path


def near(one: list[np.ndarray], other: list[np.ndarray], most: float = 4) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.abs(a.astype(int) - b).mean() < most for a, b in pairs)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp"])
def test_what_is_written_is_read(frames: list[np.ndarray], tmp_path: Path, name: str) -> None:
    video = open_video(written(frames, tmp_path / "new" / name))
    found = list(video)
    assert near([frame for _, frame in found], frames, 8 if name == "a.gif" else 4)
    assert [time for time, _ in found] == pytest.approx(TIMES, abs=1e-3)
    assert next(iter(video))[1].tobytes() == found[0][1].tobytes(), (
        "it is read again from its start"
    )
    assert video.count == 6
    assert 10 < video.fps < 20
    assert not video.sound
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "frames"])
def test_it_says_that_it_is_synthetic(frames: list[np.ndarray], tmp_path: Path, name: str) -> None:
    path = written(frames, tmp_path / name)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    assert all(DIGITAL_SOURCE_TYPE.encode() in file.read_bytes() for file in files)


def test_a_folder_of_frames(frames: list[np.ndarray], tmp_path: Path) -> None:
    path = written(frames, tmp_path / "frames")
    assert [p.name for p in sorted(path.iterdir())][::5] == ["000000.png", "000005.png"]
    video = open_video(path, fps=10)
    assert [round(time, 3) for time, _ in video] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert all(np.array_equal(a, b) for (_, a), b in zip(video, frames, strict=True))
    with pytest.raises(ValueError, match="name a new folder"):
        written(frames, path)


def test_a_video_may_be_left_after_any_frame(frames: list[np.ndarray], tmp_path: Path) -> None:
    many = [frame for frame in frames for _ in range(5)]
    path = tmp_path / "left.mp4"
    write_video(iter(many), path, times=[k / 25 for k in range(len(many))], fps=25, xmp=XMP)
    for count in range(1, 21):
        reading = iter(open_video(path))
        assert len(list(islice(reading, count))) == count
        del reading  # with threads per frame, PyAV 14.2 waits here for ever


def test_the_same_frames_give_the_same_mp4(frames: list[np.ndarray], tmp_path: Path) -> None:
    first, second = (written(frames, tmp_path / f"{i}.mp4").read_bytes() for i in (0, 1))
    assert first == second


def test_a_telephone_that_lies_on_its_side(frames: list[np.ndarray], tmp_path: Path) -> None:
    path = written(frames, tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd")
    turn = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 160 << 16, 0, 1 << 30)
    data[header + 44 : header + 80] = turn  # a quarter to the right
    path.write_bytes(data)
    assert near([frame for _, frame in open_video(path)], [np.rot90(f, -1) for f in frames])


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "libopus")])
def test_the_sound_is_kept(frames: list[np.ndarray], tmp_path: Path, name: str, codec: str) -> None:
    source, out = with_sound(frames, tmp_path / name, codec), tmp_path / "out.mp4"
    video = open_video(source)
    assert video.sound
    times = [time for time, _ in video]
    assert write_video(frames, out, times=times, fps=25, xmp=XMP, sound=source) == ""
    heard = []
    for path in (source, out):
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(audio=0) if p.size]
            heard.append([bytes(p) for p in packets])
            assert float(packets[-1].pts * packets[-1].time_base) > 0.2
    assert heard[0] == heard[1]
    assert len(heard[0]) > 5


def test_sound_that_is_dropped_is_told(frames: list[np.ndarray], tmp_path: Path) -> None:
    source = with_sound(frames, tmp_path / "a.avi", "adpcm_ms")
    settings = {"times": TIMES, "fps": 25.0, "xmp": XMP, "sound": source}
    assert "adpcm_ms" in write_video(frames, tmp_path / "out.mp4", **settings)  # type: ignore[arg-type]
    assert "no sound" in write_video(frames, tmp_path / "out.gif", **settings)  # type: ignore[arg-type]
    assert len(list(open_video(tmp_path / "out.mp4"))) == 6


def read(path: Path, **options: float) -> None:
    list(open_video(path, **options))  # type: ignore[arg-type]


def test_bad_files_are_named(frames: list[np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.webp").write_text("no video")
    whole = written(frames, tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").mkdir()
    Image.fromarray(frames[0]).save(tmp_path / "one.webp")
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=48000)
        container.mux(sound.encode(None))
    for name in ("text.mp4", "text.webp", "cut.mp4", "empty", "one.webp", "sound.m4a", "none.mp4"):
        with pytest.raises(UnreadableVideoError, match=name):
            read(tmp_path / name)


def test_frames_of_another_size(frames: list[np.ndarray], tmp_path: Path) -> None:
    path = written(frames, tmp_path / "frames")
    Image.fromarray(frames[0][:100]).save(path / "000003.png")
    with pytest.raises(UnreadableVideoError, match="frame 3 is 144x100, the first 144x160"):
        read(path)
    (path / "000003.png").write_text("no picture")
    with pytest.raises(UnreadableImageError, match="000003"):
        read(path)


def test_refused(frames: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(frames, tmp_path / "a.mp4")
    with pytest.raises(ImageTooLargeError, match=r"a\.mp4"):
        read(path, max_pixels=1000)
    with pytest.raises(ValueError, match="fps is for a folder"):
        read(path, fps=10)
    with pytest.raises(ValueError, match="above 0"):
        read(tmp_path, fps=0)
    with pytest.raises(ValueError, match=r"\.mp4, \.gif, \.webp"):
        written(frames, tmp_path / "a.avi")

    def fails() -> object:
        yield frames[0]
        raise ExpraugError("in the middle")

    for name in ("b.mp4", "b.gif", "b.webp", "b"):
        with pytest.raises(ExpraugError, match="in the middle"):
            write_video(fails(), tmp_path / name, times=TIMES, fps=15, xmp=XMP)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "av", None)
    for work in (lambda: read(path), lambda: written(frames, tmp_path / "c.mp4")):
        with pytest.raises(MissingDependencyError, match=r"expraug\[video\]"):
            work()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
