"""The quickest augmenter, for tests of what happens around the faces that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from expraug import ExpressionAugmenter
from expraug.faces.align import similarity
from expraug.faces.detect import CROP_POINTS, CropDetector, DetectedFace
from expraug.faces.pixels import Pixels
from expraug.networks.landmark_classifier import load_landmark_classifier


class MeanFaceDetector(CropDetector):
    """Takes every image for a crop, with the landmarks of a mean face in it: finds nothing."""

    landmarks = True

    def __init__(self, points: Any = CROP_POINTS) -> None:
        super().__init__(points)
        self.fingerprint = f"mean-face-{self.fingerprint}"

    def __call__(self, images: Sequence[Pixels]) -> list[DetectedFace | None]:
        return [with_mean_face(face) for face in super().__call__(images) if face is not None]


def with_mean_face(face: DetectedFace) -> DetectedFace:
    """Return a face whose points are known with the landmarks of a mean face there."""
    matrix = similarity(face.points[None].astype(np.float64))[0]
    mesh = _mean_face() @ matrix[:, :2].T + matrix[:, 2] - 0.5
    return replace(
        face,
        mesh=mesh.astype(np.float32),
        blendshapes=np.zeros(52, np.float32),
        pose=np.zeros(3, np.float32),
    )


def unchecked() -> dict[str, Any]:
    """Return the arguments with which no face is looked for, and none is refused for its looks."""
    return {"alignment": MeanFaceDetector(), "check_landmarks": False}


def crop_augmenter(synthesizer: Any, **options: Any) -> ExpressionAugmenter:
    """Return an augmenter that takes every image for a crop and keeps every face it makes."""
    return ExpressionAugmenter(synthesizer, **unchecked() | options)


@cache
def _mean_face() -> np.ndarray:
    """Return (478, 2) canonical landmarks."""
    centred = load_landmark_classifier().mean.double().numpy()
    mesh: np.ndarray = centred + np.array([0.5, 0.0])
    return mesh
