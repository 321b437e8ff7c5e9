"""Clips as files: MP4, animated GIF, or all frames in a row as PNG, each marked as synthetic."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from expraug.errors import MissingDependencyError
from expraug.faces.image_file import encode, provenance, write_file

SUFFIXES = (".mp4", ".gif", ".png")
"""What `write_clip` can write."""


def write_clip(
    frames: np.ndarray,
    path: str | os.PathLike[str],
    *,
    fps: float = 15.0,
    fingerprint: str = "",
    target: str = "",
    source: str = "",
) -> None:
    """Write a clip, whole or not at all; folders are made.

    The file says that it is synthetic as the files of `expand` do, with an XMP packet: in the
    metadata of a PNG, and as the comment of an MP4 or a GIF, neither of which has a place for it
    that its library writes.

    Args:
        frames: (T, C, H, W) uint8, grey or RGB, as `ExpressionAugmenter.clip` returns them.
        path: its suffix says what is written: ".mp4" (H.264, 4:2:0, the last row or column
            repeated where a side is odd), ".gif" (played again and again) or ".png" (the frames
            from left to right).
        fps: frames a second; a GIF's pauses are whole hundredths of a second, two at least.
        fingerprint: of the synthesizer that made it.
        target: the expression of the last frame.
        source: where the face came from.

    Raises:
        MissingDependencyError: an MP4 without PyAV.
        ValueError: frames of another shape or type, no such suffix, or fps that is not above 0.
        OSError: the file cannot be written.
    """
    path = Path(path)
    frames = np.asarray(frames)
    shape = frames.shape
    if frames.dtype != np.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or not shape[0]:
        raise ValueError(
            f"frames must be (T, 1 or 3, H, W) uint8, not {frames.dtype} of shape {shape}"
        )
    check_suffix(path)
    if not fps > 0:
        raise ValueError(f"fps must be above 0, not {fps}")
    xmp = provenance(fingerprint, target, 1.0, source)
    images = frames.transpose(0, 2, 3, 1)
    images = images[..., 0] if images.shape[3] == 1 else images
    suffix = path.suffix.lower()
    if suffix == ".png":
        data = encode(np.concatenate(images, axis=1), "png", xmp)
    elif suffix == ".gif":
        data = _gif(images, fps, xmp)
    else:
        data = _mp4(images, fps, xmp)
    write_file(path, data)


def check_suffix(path: Path) -> None:
    """Raise ValueError unless the path's suffix is one of `SUFFIXES`, and MissingDependencyError
    where what writes it is missing."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path}: a clip is written as {', '.join(SUFFIXES)}, not as {path.suffix!r}"
        )
    if path.suffix.lower() == ".mp4":
        _require_av()


def _require_av() -> None:
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "writing .mp4 needs PyAV: pip install 'expraug[video]'; .gif and .png need nothing more"
        ) from error


def _gif(images: np.ndarray, fps: float, xmp: str) -> bytes:
    first, *rest = [Image.fromarray(image) for image in images]
    out = io.BytesIO()
    first.save(
        out,
        "GIF",
        save_all=True,
        append_images=rest,
        duration=max(20, round(100 / fps) * 10),  # in ms; viewers slow down what is faster
        loop=0,
        comment=xmp.encode(),
    )
    return out.getvalue()


def _mp4(images: np.ndarray, fps: float, xmp: str) -> bytes:
    import av

    height, width = images.shape[1:3]
    odd = [(0, 0), (0, height % 2), (0, width % 2)] + [(0, 0)] * (images.ndim - 3)
    images = np.pad(images, odd, mode="edge")  # 4:2:0 shares colour among four pixels
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        container.metadata["comment"] = xmp
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # as many threads as there are cores would give other bytes on other machines
        stream.options = {"crf": "17", "threads": "1"}
        kind = "gray" if images.ndim == 3 else "rgb24"
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()
