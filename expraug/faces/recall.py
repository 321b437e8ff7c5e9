"""Looking for a face once in an image that is asked about again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expraug.faces.detect import DetectedFace, Detector


class MemoizedDetector:
    """Remembers where the faces of the images at hand are, so that each is looked for once.

    It knows images by the array objects: an equal copy is looked at anew.

    Args:
        detector: looks for the faces.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.fingerprint, self.constant = detector.fingerprint, detector.constant
        self.landmarks = getattr(detector, "landmarks", False)
        self._known: dict[int, tuple[np.ndarray, DetectedFace | None]] = {}

    def forget(self) -> None:
        """Let go of the images at hand."""
        self._known.clear()

    def __call__(self, images: Sequence[np.ndarray]) -> list[DetectedFace | None]:
        new = [
            image for image in {id(i): i for i in images}.values() if id(image) not in self._known
        ]
        for image, location in zip(new, self.detector(new) if new else [], strict=True):
            self._known[id(image)] = (image, location)  # held, so that its id stays its own
        return [self._known[id(image)][1] for image in images]
