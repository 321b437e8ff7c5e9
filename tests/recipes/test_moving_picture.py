"""The moving picture of the README: rest, rise, hold, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expraug import ExpressionAugmenter
from recipes import moving_picture

FRAMES = 3


def test_a_course_begins_and_ends_near_rest(neutral_images: list[np.ndarray]) -> None:
    photograph = neutral_images[1]
    shown = moving_picture.course(ExpressionAugmenter(), photograph, ["surprise"], FRAMES)
    assert [text for _, text in shown[: moving_picture.RESTING]] == ["neutral"] * (
        moving_picture.RESTING
    )
    assert {text for _, text in shown} == {"neutral", "surprise"}
    change = [np.abs(np.asarray(face, int) - photograph).mean() for face, _ in shown]
    assert change[0] == 0
    highest = moving_picture.RESTING + FRAMES - 1
    assert change[highest] == max(change) > 1
    assert change[highest : highest + moving_picture.HELD] == [max(change)] * moving_picture.HELD
    assert change[-1] < max(change)


def test_the_file_moves_and_repeats(tmp_path: Path, faces: Path) -> None:
    out = tmp_path / "moving.webp"
    moving_picture.main(faces / "neutral", out, person=[1, 2], side=64, frames=FRAMES)
    with Image.open(out) as picture:
        assert picture.size == (128, 64 + moving_picture.CAPTION)
        assert 10 < picture.n_frames <= 60  # type: ignore[attr-defined]
        assert picture.info["loop"] == 0


def test_a_face_of_which_nothing_passes_is_named() -> None:
    grey = np.full((96, 96, 3), 128, np.uint8)
    with pytest.raises((SystemExit, ValueError), match="face"):
        moving_picture.course(ExpressionAugmenter(), grey, ["happy"], FRAMES)
