"""Motion of real smiles, of copies and of smiles that are doubled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from real_smiles import Smiles

from expraug import Expression
from expraug.evaluate import Context, motion
from expraug.evaluate.face_set import TooFewFacesError
from expraug.evaluate.landmarks import FACE, REGIONS, Landmarks
from expraug.evaluate.motion import ClassScale, RegionMotion, root_mean_square

HAPPY = Expression.HAPPY


def of_face(context: Context) -> RegionMotion:
    return motion.measure(context).targets["happy"].regions[FACE]


@pytest.mark.shared
def test_real_smiles_are_inside(smiles: Smiles) -> None:
    context = smiles.context(smiles.happy)
    found = motion.measure(context).targets["happy"]
    face = found.regions[FACE]
    assert face.own_change is not None
    assert face.size is not None
    for compared in (face.toward_class, face.own_change, face.size):
        assert compared.below.value < 0.2
        assert compared.above.value < 0.25
    assert face.copied.below.value > 0.5
    assert 0.6 < face.toward_class.median < 1.6
    assert list(found.regions) == [FACE, *REGIONS]
    real = len(context.data.of(HAPPY))
    assert found.pairs == found.regions["jaw"].toward_class.real == real > 20
    assert face.toward_class.below.n == len(smiles.sources)
    assert found.repeats == found.lost == 0
    lines = {line.measure for line in motion.measure(context).lines()}
    assert {"motion: not expressed", "own change: exaggerated", "size of change: too small"} < lines


@pytest.mark.shared
def test_copies_are_not_expressed(smiles: Smiles) -> None:
    face = of_face(smiles.context(smiles.neutral))
    assert face.own_change is not None
    assert face.size is not None
    for compared in (face.toward_class, face.own_change, face.size):
        assert compared.below.value > 0.5
        assert compared.below.low > 0.05
        assert compared.above.value == 0


@pytest.mark.shared
def test_doubled_smiles_are_exaggerated(smiles: Smiles) -> None:
    face = of_face(smiles.context(smiles.doubled()))
    assert face.own_change is not None
    assert face.size is not None
    for compared in (face.toward_class, face.own_change, face.size):
        assert compared.above.value > 0.3
        assert compared.above.low > 0.05
        assert compared.below.value < 0.1


@pytest.mark.shared
def test_too_few_real_faces_are_not_reported(smiles: Smiles) -> None:
    context = smiles.context(smiles.happy)
    context.data.labels[context.data.of(HAPPY)[9:]] = int(Expression.SAD)
    try:
        assert not motion.measure(context).targets
        assert "9 real" in context.skipped["naturalness of motion, happy"]
    finally:
        context.data.labels[context.data.of(Expression.SAD)] = int(HAPPY)


def cloud(middle: float, count: int, name: str) -> Landmarks:
    points = torch.randn(count, 468, 2).double().numpy() + middle
    return Landmarks(points, [f"{name}{i}" for i in range(count)])


def test_a_class_scale_is_0_at_the_start_and_1_at_the_class() -> None:
    start, goal = cloud(0, 150, "a"), cloud(0.2, 150, "b")
    scale = ClassScale(start, goal, "mouth")
    assert scale(start).mean() == pytest.approx(0)
    assert scale(goal).mean() == pytest.approx(1)
    assert scale(cloud(0.2, 150, "c")).mean() == pytest.approx(1, abs=0.15)
    assert scale(cloud(0.4, 150, "d")).mean() == pytest.approx(2, abs=0.2)


def test_a_class_scale_knows_no_difference_that_is_chance() -> None:
    refused = 0
    for _ in range(12):  # by chance, people who were left out may lie on the right side
        try:
            ClassScale(cloud(0, 15, "a"), cloud(0, 15, "b"), "brows")
        except TooFewFacesError:
            refused += 1
    assert refused > 2


def test_root_mean_square_adds_each_in_turn() -> None:
    moved, added = np.array([[3.0, 4, 0, 0]]), np.array([[0.0, 0, 0, 0], [-3, -4, 0, 2]])
    assert root_mean_square(moved)[0] == pytest.approx([np.sqrt(25 / 2)])
    assert root_mean_square(moved, added)[0] == pytest.approx([np.sqrt(25 / 2), np.sqrt(4 / 2)])
