"""Galleries for notebooks: of an image, of an expanded set, of a data set."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from expraug import ExpressionAugmentedDataset, ExpressionAugmenter, show
from expraug.errors import NoFaceError, UnsupportedExpressionError
from expraug.expand import Report
from expraug.review.page import ReviewError

FACE = Path(__file__).parents[2] / "examples" / "faces" / "neutral" / "london_008.jpg"


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def test_an_image(tmp_path: Path) -> None:
    gallery = show(FACE, "neutral", ["happy", "surprise"])
    (row,) = gallery.rows
    assert [shown.caption for shown in row] == ["neutral", "happy", "surprise"]
    source, happy, surprise = pictures(gallery._repr_html_())
    assert source.shape == (160, 160, 3)
    for made in (happy, surprise):
        change = np.abs(made.astype(int) - source)
        assert change[100:140, 40:120].mean() > 5  # the mouth
    for image in (Image.open(FACE), np.asarray(Image.open(FACE).convert("RGB"))):
        assert show(image, "neutral", ["happy", "surprise"]) == gallery
    gallery.save(tmp_path / "new" / "page.html")
    assert len(pictures((tmp_path / "new" / "page.html").read_text())) == 3
    everything = show(FACE, "neutral", synthesizer="pixel").rows[0]
    assert len(everything) == 8  # what it shows already is not made
    assert all(shown.picture or "refused" in shown.caption for shown in everything)


def test_an_expanded_set(expanded: Report) -> None:
    gallery = show(expanded.folder, limit=3)
    assert len(gallery.rows) == 3
    assert "(not copied)" in gallery.rows[0][0].caption
    assert len(pictures(gallery._repr_html_())) == 3
    with pytest.raises(ReviewError, match="no complete expanded set"):
        show(expanded.folder.parent / "set")


def test_a_data_set(expanded: Report, smile: str) -> None:
    base = ImageFolder(str(expanded.folder.parent / "set"))
    augmenter = ExpressionAugmenter(smile, check_landmarks=False)
    gallery = show(ExpressionAugmentedDataset(base, augmenter), limit=4)
    pairs = {(row[0].caption, row[1].caption) for row in gallery.rows}
    assert pairs == {("happy", "neutral"), ("neutral", "happy")}
    assert len(pictures(gallery._repr_html_())) == 8
    with pytest.raises(ValueError, match="mode='add'"):
        show(ExpressionAugmentedDataset(base, augmenter, mode="replace"))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: show(FACE, limit=0), ValueError),
        (lambda: show(FACE, "happy", ["sad"], synthesizer="fevgan"), UnsupportedExpressionError),
        (lambda: show(np.zeros((90, 90, 3), np.uint8), alignment="detect"), NoFaceError),
        (lambda: show(FACE.parents[3] / "nothing.jpg"), OSError),
    ],
)
def test_what_cannot_be_shown(call: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()
