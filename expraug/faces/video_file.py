"""Videos as files: frames read one after the other, and written as they come, with their sound."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from expraug.errors import ImageTooLargeError, MissingDependencyError, UnreadableVideoError
from expraug.faces.image import MAX_PIXELS, check_size, read_image
from expraug.faces.image_file import encode, replacing

WRITTEN = (".mp4", ".gif", ".webp")
"""Suffixes that `write_video` knows; a name without one is a folder of PNG files."""
_ANIMATED = (".gif", ".webp", ".png", ".apng")  # read by Pillow
_STILL = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))  # in a folder
_FOLDER_FPS = 25.0
_CLOCK = 90_000  # ticks per second: all usual frame rates are whole numbers of them


@dataclass(frozen=True)
class VideoFile:
    """A video that can be read, from its start, as often as wanted.

    Args:
        path: the file or folder.
        fps: frames per second, on average.
        count: number of frames as the file says it; 0 if it does not.
        sound: whether there is any.
        read: yields the time of each frame in seconds, and its pixels, (H, W, 3) uint8.
    """

    path: Path
    fps: float
    count: int
    sound: bool
    read: Callable[[], Iterator[tuple[float, np.ndarray]]]

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the time of each frame in seconds, and its pixels, (H, W, 3) uint8, all alike.

        Raises:
            UnreadableVideoError: a damaged frame, or one of another size than the first.
            ImageTooLargeError: frames with more pixels than allowed.
        """
        shape: tuple[int, ...] | None = None
        for number, (time, frame) in enumerate(self.read()):
            shape = frame.shape if shape is None else shape
            if frame.shape != shape:
                raise UnreadableVideoError(
                    f"{self.path}: frame {number} is {frame.shape[1]}x{frame.shape[0]}, the first "
                    f"{shape[1]}x{shape[0]}: bring all to one size"
                )
            yield time, frame


def open_video(
    path: str | os.PathLike[str], *, fps: float | None = None, max_pixels: int = MAX_PIXELS
) -> VideoFile:
    """Open a video: what PyAV decodes, as .mp4, .mov, .webm; .gif, .webp; or a folder of frames.

    Args:
        path: of the file; or of a folder with images of one size, taken in the order of their
            names.
        fps: of a folder; None: 25.
        max_pixels: limit on the width x height of a frame.

    Raises:
        UnreadableVideoError: missing, or no video.
        MissingDependencyError: a file that needs PyAV, without it.
        ValueError: `fps` that is not above 0, or for a file, which has its own.
    """
    path = Path(path)
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be above 0, not {fps}")
    if path.is_dir():
        return _folder(path, fps or _FOLDER_FPS, max_pixels)
    if fps is not None:
        raise ValueError(f"{path}: a file says itself how fast it is; fps is for a folder")
    if not path.is_file():
        raise UnreadableVideoError(f"{path}: there is no such file or folder")
    if path.suffix.lower() in _ANIMATED:
        return _animation(path, max_pixels)
    return _video(path, max_pixels)


def _folder(path: Path, fps: float, max_pixels: int) -> VideoFile:
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in _STILL)
    if not files:
        raise UnreadableVideoError(f"{path}: no images in this folder to take as frames")

    def read() -> Iterator[tuple[float, np.ndarray]]:
        for number, file in enumerate(files):
            yield number / fps, _rgb(read_image(file, max_pixels=max_pixels))

    return VideoFile(path, fps, len(files), False, read)


def _animation(path: Path, max_pixels: int) -> VideoFile:
    def read() -> Iterator[tuple[float, np.ndarray]]:
        time = 0.0
        try:
            with Image.open(path) as image:
                check_size(image.width, image.height, max_pixels, str(path))
                for frame in ImageSequence.Iterator(image):
                    yield time, np.array(frame.convert("RGB"))
                    time += (frame.info.get("duration") or 100) / 1000
        except (ImageTooLargeError, UnreadableVideoError, GeneratorExit):
            raise
        except Exception as error:  # Pillow raises many kinds on damaged files
            raise UnreadableVideoError(f"{path}: not a readable animation ({error})") from error

    times = [time for time, _ in read()]
    if len(times) < 2:
        raise UnreadableVideoError(f"{path}: a single picture; `augment` is for those")
    return VideoFile(path, (len(times) - 1) / max(times[-1], 1e-3), len(times), False, read)


def _video(path: Path, max_pixels: int) -> VideoFile:
    av = _require_av(path)

    def opened() -> Any:
        try:
            return av.open(str(path), metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise UnreadableVideoError(
                f"{path}: not a video that can be read ({_told(error)}); if a player shows it, "
                f"convert it: ffmpeg -i {path.name} converted.mp4"
            ) from error

    with opened() as container:
        if not container.streams.video:
            raise UnreadableVideoError(f"{path}: no pictures in this file, only sound or text")
        stream = container.streams.video[0]
        check_size(stream.width, stream.height, max_pixels, str(path))
        fps = float(stream.average_rate or stream.guessed_rate or _FOLDER_FPS)
        count, sound = stream.frames, bool(container.streams.audio)

    def read() -> Iterator[tuple[float, np.ndarray]]:
        number = 0
        with opened() as container:
            # its thread_type stays: with "AUTO", PyAV 14.2 waits for ever where reading ends early
            stream = container.streams.video[0]
            try:
                for frame in container.decode(stream):
                    check_size(frame.width, frame.height, max_pixels, str(path))
                    time = number / fps if frame.time is None else frame.time
                    yield time, _upright(frame)
                    number += 1
            except av.FFmpegError as error:
                raise UnreadableVideoError(
                    f"{path}: damaged at frame {number} ({_told(error)}); a player that repairs "
                    f"it may save it anew, as ffmpeg -i {path.name} repaired.mp4"
                ) from error
        if not number:
            raise UnreadableVideoError(f"{path}: a video without a single frame")

    return VideoFile(path, fps, count, sound, read)


def _upright(frame: Any) -> np.ndarray:
    """Return the pixels of a frame as a player shows it: telephones film lying on their side."""
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def check_out(path: Path) -> None:
    """Raise what `write_video` would raise about its path.

    Raises:
        ValueError: no such suffix, or a folder that holds something.
        MissingDependencyError: .mp4 without PyAV.
    """
    suffix = path.suffix.lower()
    if suffix and suffix not in WRITTEN:
        raise ValueError(
            f"{path}: a video is written as {', '.join(WRITTEN)}, or, without a suffix, as a "
            f"folder of frames, not as {path.suffix!r}"
        )
    if suffix == ".mp4":
        _require_av(path)
    if not suffix and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} is there already and holds something: name a new folder")


def write_video(
    frames: Iterable[np.ndarray],
    path: Path,
    *,
    times: Sequence[float] | np.ndarray,
    fps: float,
    xmp: str,
    sound: Path | None = None,
) -> str:
    """Write a video, whole or not at all; folders are made.

    Args:
        frames: T arrays, (H, W, 3) or (H, W) uint8, taken as they come.
        path: its suffix says what is written: ".mp4" (H.264, 4:2:0, the last row or column
            repeated where a side is odd), ".gif", ".webp"; without one, a folder of PNG files.
        times: of the T frames, in seconds.
        fps: frames per second, on average.
        xmp: what marks it as synthetic (`expraug.faces.image_file.provenance`).
        sound: the video whose sound goes into an .mp4, packet by packet as it is.

    Returns:
        Why there is no sound, where there was to be some; else "".

    Raises:
        ValueError, MissingDependencyError: as `check_out`.
        OSError: it cannot be written.
    """
    check_out(path)
    suffix = path.suffix.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not suffix:
        _write_folder(frames, path, xmp)
    else:
        with replacing(path, path.parent) as partial:
            if suffix == ".mp4":
                return _write_mp4(frames, partial, times, fps, xmp, sound)
            pauses = [round(1000 * p) for p in np.diff([*times, times[-1] + 1 / fps])]
            _write_animation(frames, partial, suffix[1:], pauses, xmp)
    return "" if sound is None else f"{suffix or 'a folder of frames'} holds no sound"


def _write_folder(frames: Iterable[np.ndarray], path: Path, xmp: str) -> None:
    partial = path.parent / f".{uuid.uuid4().hex}.tmp"
    partial.mkdir()
    try:
        for number, frame in enumerate(frames):
            (partial / f"{number:06d}.png").write_bytes(encode(frame, "png", xmp))
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_animation(
    frames: Iterable[np.ndarray], path: Path, kind: str, pauses: Sequence[int], xmp: str
) -> None:
    rest = (Image.fromarray(frame) for frame in frames)
    first = next(rest)
    options: dict[str, Any] = {"duration": list(pauses), "loop": 0}
    if kind == "gif":  # in whole hundredths; viewers slow down what is faster than two
        options |= {"duration": [max(20, round(p / 10) * 10) for p in pauses]}
        options |= {"comment": xmp.encode()}
    else:
        options |= {"xmp": xmp.encode(), "quality": 90, "method": 2}
    first.save(path, kind.upper(), save_all=True, append_images=rest, **options)


def _write_mp4(
    frames: Iterable[np.ndarray],
    path: Path,
    times: Sequence[float] | np.ndarray,
    fps: float,
    xmp: str,
    sound: Path | None,
) -> str:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        container.metadata["comment"] = xmp
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        # as many threads as there are cores would give other bytes on other machines
        stream.options = {"crf": "17", "threads": "1"}
        carried = _Sound(container, sound)
        for time, frame in zip(times, frames, strict=True):
            height, width = frame.shape[:2]
            odd = [(0, height % 2), (0, width % 2)] + [(0, 0)] * (frame.ndim - 2)
            padded = np.pad(frame, odd, mode="edge")  # 4:2:0 shares colour among four pixels
            if not stream.codec_context.is_open:
                stream.height, stream.width = padded.shape[:2]
            kind = "gray" if padded.ndim == 2 else "rgb24"
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format=kind)
            picture.pts, picture.time_base = round(time * _CLOCK), Fraction(1, _CLOCK)
            container.mux(stream.encode(picture))
            carried.until(time)
        container.mux(stream.encode(None))
        carried.until(float("inf"))
    return carried.why_not


class _Sound:
    """The sound of one video on its way into another, as it is.

    Args:
        container: the video that is written.
        source: the other; None: there is no sound.
    """

    def __init__(self, container: Any, source: Path | None) -> None:
        import av

        self.why_not = ""
        self._container = container
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        if source is None:
            return
        opened = av.open(str(source), metadata_errors="replace")
        stream = opened.streams.audio[0]
        name = stream.codec_context.codec.canonical_name
        if name not in container.supported_codecs:
            self.why_not = f"an .mp4 holds no {name}: add it as ffmpeg -i {source.name} sound.m4a"
            return
        self._stream = container.add_stream_from_template(stream)
        self._packets = (p for p in opened.demux(stream) if p.dts is not None)
        self._next = next(self._packets, None)

    def until(self, time: float) -> None:
        """Write what is heard until then, in seconds."""
        while self._next is not None and self._next.dts * self._next.time_base <= time:
            self._next.stream = self._stream
            self._container.mux(self._next)
            self._next = next(self._packets, None)


def _rgb(frame: np.ndarray) -> np.ndarray:
    return frame if frame.ndim == 3 else np.repeat(frame[:, :, None], 3, axis=2)


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _require_av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: {path.suffix or 'such a file'} needs PyAV: pip install 'expraug[video]'; "
            f".gif and .webp need nothing more"
        ) from error
    return av
