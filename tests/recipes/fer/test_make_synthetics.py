"""Synthetics for the tables, through the augmenter that users have."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.expressions import Expression
from expraug.gate import AllGates, ExpressionGate, IdentityGate
from recipes.fer.folds import SETTINGS, FaceSet
from recipes.fer.make_synthetics import make, plan, with_exemplars_of
from recipes.fer.synthetics import Synthetics

HAPPY, NEUTRAL = Expression.HAPPY, Expression.NEUTRAL


@pytest.fixture(scope="module")
def train(faces) -> FaceSet:
    """Ten neutral and ten smiling faces of 48 px."""
    paths = [p for name in ("neutral", "happy") for p in sorted((faces / name).iterdir())]
    pixels = np.stack([np.array(Image.open(p).convert("L").resize((48, 48))) for p in paths])
    labels = np.repeat([int(NEUTRAL), int(HAPPY)], 10)
    return FaceSet(pixels, labels, labels, np.zeros(20, bool))


def test_every_beginning_of_a_plan_is_balanced():
    labels = np.arange(400) % 8
    rows = np.arange(400)
    asked = plan(SETTINGS["ferplus"], labels, rows, rows[:200], 64, 300, 60)
    assert len(asked) == 360
    assert len(set(asked)) > 350
    for part in (asked[:90], asked):
        edited = Counter(request.target for _, request, own in part if not own)
        own = Counter(request.target for _, request, own in part if own)
        assert set(edited) == set(own) == set(SETTINGS["ferplus"].rare)
        assert max(edited.values()) <= 1.2 * min(edited.values()) + 2
        assert max(own.values()) - min(own.values()) <= 1
        assert sum(own.values()) == pytest.approx(len(part) / 6, abs=2)
    for row, request, own in asked:
        assert own == (labels[row] == int(request.target))
        assert own or row < 200, "only clear faces are sources"


def test_faces_are_those_that_users_get_and_work_goes_on(train, tmp_path):
    gate = AllGates([IdentityGate(), ExpressionGate(threshold=0.0)])
    augmenter = ExpressionAugmenter("pixel", gate=gate)
    asked = [(row, SynthesisRequest(HAPPY, 0.8), False) for row in range(6)]
    file = tmp_path / "made.npz"
    make(augmenter, train, asked[:4], file, 2)
    before = Synthetics.load(file)
    make(augmenter, train, asked, file, 2)
    after = Synthetics.load(file)
    assert len(after) > len(before) > 0
    assert np.array_equal(after.pixels[: len(before)], before.pixels)
    for row, pixels in zip(after.source, after.pixels, strict=True):
        (expected,) = ExpressionAugmenter("pixel")([train.pixels[row]], [asked[row][1]])
        assert np.array_equal(pixels, expected.image)
    assert ((after.seen >= 0) & (after.seen <= 1)).all()
    assert set(after.target) == {int(HAPPY)}


def test_own_exemplars_are_faces_of_the_fold(faces, tmp_path):
    # Labels are dealt out: two faces for each rare class of the setting
    paths = sorted((faces / "happy").iterdir()) + sorted((faces / "neutral").iterdir())[:2]
    pixels = np.stack([np.array(Image.open(p).convert("L").resize((48, 48))) for p in paths])
    how = SETTINGS["ferplus_20"]
    labels = np.repeat([int(e) for e in how.rare], 2)
    own = FaceSet(pixels, labels, labels, np.zeros(12, bool))
    model = with_exemplars_of(how, own, np.arange(12), tmp_path / "own")
    rows = model.config["rows"]
    assert all(1 <= rows[str(e)] <= 2 for e in how.rare)
    again = with_exemplars_of(how, own, np.arange(12), tmp_path / "own")
    assert again.fingerprint == model.fingerprint
