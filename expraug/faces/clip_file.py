"""Clips as files: moving pictures, or all frames in a row as PNG, each marked as synthetic."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from expraug.faces.image_file import encode, provenance, write_file
from expraug.faces.video_file import WRITTEN, check_out, write_video

SUFFIXES = (*WRITTEN, ".png")
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
    metadata of a PNG or WebP, and as the comment of an MP4 or a GIF, neither of which has a place
    for it that its library writes.

    Args:
        frames: (T, C, H, W) uint8, grey or RGB, as `ExpressionAugmenter.clip` returns them.
        path: its suffix says what is written: ".png" (the frames from left to right), or as of
            `expraug.faces.video_file.write_video`.
        fps: frames per second; a GIF's pauses are whole hundredths of a second, two at least.
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
    if path.suffix.lower() == ".png":
        write_file(path, encode(np.concatenate(images, axis=1), "png", xmp))
    else:
        write_video(images, path, times=np.arange(len(images)) / fps, fps=fps, xmp=xmp)


def check_suffix(path: Path) -> None:
    """Raise ValueError unless the path's suffix is one of `SUFFIXES`, and MissingDependencyError
    where what writes it is missing."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path}: a clip is written as {', '.join(SUFFIXES)}, not as {path.suffix!r}"
        )
    if path.suffix.lower() != ".png":
        check_out(path)
