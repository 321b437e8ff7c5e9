"""Shut eyes are not opened: there is nothing of them to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transfer_faces import read, with_shut_eyes

from expraug import Expression, ExpressionAugmenter, SynthesisRequest
from expraug.expand import expand

SURPRISE = SynthesisRequest(Expression.SURPRISE)


@pytest.fixture(scope="module")
def sleeper(neutral_images: list[np.ndarray]) -> np.ndarray:
    """A sample face with lids that have come down."""
    image = with_shut_eyes(neutral_images[4])
    (before, after) = (read([i])[1]["blendshapes"][0, 9:11] for i in (neutral_images[4], image))
    assert (after > before + 0.15).all(), "the eyes must look shut"
    return image


def test_shut_eyes_are_refused_with_a_reason(
    sleeper: np.ndarray, neutral_images: list[np.ndarray]
) -> None:
    augmenter = ExpressionAugmenter("transfer", check_landmarks=False)
    refused, made = augmenter([sleeper, neutral_images[4]], [SURPRISE, SURPRISE])
    assert refused.target is None
    assert refused.reason == "eyes_shut"
    assert np.array_equal(refused.image, sleeper)
    assert made.target is Expression.SURPRISE
    assert augmenter.stats == {"made": 1, "eyes_shut": 1}


def test_expand_lists_shut_eyes(
    sleeper: np.ndarray, neutral_images: list[np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "faces" / "neutral"
    folder.mkdir(parents=True)
    Image.fromarray(sleeper).save(folder / "shut.png")
    Image.fromarray(neutral_images[4]).save(folder / "open.png")
    (tmp_path / "faces" / "surprise").mkdir()
    report = expand(
        tmp_path / "faces",
        tmp_path / "out",
        synthesizer="transfer",
        gate=None,
        targets=["surprise"],
        alignment="detect",
    )
    rows = {Path(r["source"]).name: r for r in pq.read_table(report.manifest).to_pylist()}
    assert rows["open.png"]["status"] == "made"
    shut = rows["shut.png"]
    assert (shut["status"], shut["reason"], shut["file"]) == ("skipped", "eyes_shut", None)
    assert shut["message"] == "the eyes are shut, and the expression would open them"
    assert report.skipped["eyes_shut"] == 1
