"""MediaPipe's Face Landmarker as a detector of the pipeline, to measure what ours changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from expraug.faces import DetectedFace
from expraug.faces.landmarks import five_points
from recipes.landmarker.compare import mediapipe_detector


class MediaPipeDetector:
    """Finds the largest face with MediaPipe, on the framings of `LandmarkDetector`.

    Args:
        task: the model's `.task` file.
        mode: "detect" for photographs, "crop" for face crops.
    """

    constant = False
    tensors = False
    landmarks = True

    def __init__(self, task: Path, mode: Literal["detect", "crop"]) -> None:
        self._detect = mediapipe_detector(task, mode)
        self.fingerprint = f"mediapipe-{mode}"

    def __call__(self, images: Sequence[np.ndarray]) -> list[DetectedFace | None]:
        return [self._face(image) for image in images]

    def _face(self, image: np.ndarray) -> DetectedFace | None:
        found = self._detect(image)
        if found is None:
            return None
        mesh, scores, pose = (np.asarray(values, np.float32) for values in found)
        return DetectedFace(five_points(mesh), 1, mesh, scores, pose)
