"""Sequences of frames that show one person's expression in motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expraug.datasets.source import FaceItem
from expraug.errors import UnreadableImageError
from expraug.faces.image import MAX_PIXELS, read_image


@dataclass(frozen=True)
class Clip:
    """One labelled sequence, not decoded yet.

    Args:
        stem: name for derived files, unique in the set.
        class_name: the set's own name of the class that the apex shows.
        origin: the folder of frames, relative to the set.
        frames: its T image files, in order of time.
        identity: who it shows.
        apex: index of the frame that shows the expression most.
        starts_neutral: whether the first frame shows a neutral face.
    """

    stem: str
    class_name: str
    origin: str
    frames: tuple[Path, ...]
    identity: str
    apex: int
    starts_neutral: bool = True

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Decode all frames: (T, H, W) or (T, H, W, 3) uint8.

        Raises:
            UnreadableImageError: a frame is damaged, or of another size than the first.
            ImageTooLargeError: a frame has more than `max_pixels`.
        """
        frames = [read_image(path, max_pixels=max_pixels) for path in self.frames]
        for path, frame in zip(self.frames, frames, strict=True):
            if frame.shape != frames[0].shape:
                raise UnreadableImageError(
                    f"{path}: a frame of shape {frame.shape} in a clip of {frames[0].shape}"
                )
        return np.stack(frames)

    def faces(self, neutral: str) -> Iterator[FaceItem]:
        """Yield its labelled stills: the first frame as `neutral` if it is so, then the apex."""
        if self.starts_neutral and self.apex:
            yield self._still(0, neutral)
        yield self._still(self.apex, self.class_name)

    def _still(self, index: int, class_name: str) -> FaceItem:
        path = self.frames[index]
        stem = path.stem if path.stem.startswith(self.stem) else f"{self.stem}_{path.stem}"
        return FaceItem(stem, class_name, f"{self.origin}/{path.name}", path, self.identity)
