"""Faces that are turned away are refused where landmarks are needed, from whichever door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, augment
from expraug.errors import RejectedError
from expraug.faces.detect import KnownFaceDetector
from expraug.faces.landmarks import LandmarkDetector
from expraug.pipeline.synthesize import MOST_TURNED

HAPPY = SynthesisRequest(Expression.HAPPY)


@pytest.fixture(scope="module")
def photograph(neutral_images: list[np.ndarray]) -> np.ndarray:
    return neutral_images[0]


@pytest.fixture(scope="module")
def turned(photograph: np.ndarray) -> Callable[[float, float], KnownFaceDetector]:
    """A detector that finds the face of the photograph turned by yaw and pitch."""
    (face,) = LandmarkDetector("detect")([photograph])
    assert face is not None
    assert np.abs(face.pose[:2]).max() < MOST_TURNED / 2

    def detector(yaw: float, pitch: float) -> KnownFaceDetector:
        return KnownFaceDetector(replace(face, pose=np.array([yaw, pitch, 0], np.float32)))

    return detector


@pytest.mark.parametrize("synthesizer", ["transfer", "pixel"])
def test_turned_faces_are_refused_either_way(synthesizer, photograph, turned, tmp_path):
    far, near = MOST_TURNED + 1, MOST_TURNED - 1
    for yaw, pitch in ((far, 0), (-far, 0), (0, far), (0, -far)):
        augmenter = ExpressionAugmenter(
            synthesizer, alignment=turned(yaw, pitch), cache=tmp_path / "cache"
        )
        for cached in (False, True):
            (outcome,) = augmenter([photograph], [HAPPY])
            assert (outcome.target, outcome.reason) == (None, "turned_away")
            assert outcome.cached is cached
            assert np.array_equal(outcome.image, photograph)
        assert augmenter.stats == {"turned_away": 2}
    for yaw, pitch in ((near, 0), (-near, 0), (0, near), (0, -near)):
        alignment = turned(yaw, pitch)
        augmenter = ExpressionAugmenter(synthesizer, alignment=alignment, check_landmarks=False)
        (outcome,) = augmenter([photograph], [HAPPY])
        assert outcome.target is Expression.HAPPY


def test_who_needs_no_landmarks_makes_turned_faces(photograph, turned):
    augmenter = ExpressionAugmenter("unet_cgan", alignment=turned(50, 0), check_landmarks=False)
    (outcome,) = augmenter([photograph], [HAPPY])
    assert outcome.target is Expression.HAPPY


def test_one_image_and_clips_raise(photograph, turned):
    with pytest.raises(RejectedError, match="turned_away") as raised:
        augment(photograph, "neutral", "happy", synthesizer="pixel", alignment=turned(50, 0))
    assert raised.value.reason == "turned_away"
    augmenter = ExpressionAugmenter("pixel", alignment=turned(50, 0))
    with pytest.raises(RejectedError, match="turned_away"):
        augmenter.clip(photograph, "neutral", "happy", 3)
