"""The quickest augmenter, for tests of what happens around the faces that it makes."""

from __future__ import annotations

from typing import Any

from expraug import ExpressionAugmenter
from expraug.faces.detect import CropDetector


def unchecked() -> dict[str, Any]:
    """Return the arguments with which no face is looked for, and none is refused for its looks."""
    return {"alignment": CropDetector(), "check_landmarks": False}


def crop_augmenter(synthesizer: Any, **options: Any) -> ExpressionAugmenter:
    """Return an augmenter that takes every image for a crop and keeps every face it makes."""
    return ExpressionAugmenter(synthesizer, **unchecked() | options)
