"""The recipe that makes pairs, on the sample faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from expraug import Expression
from expraug.datasets import person_split
from expraug.faces.mouth import lips_of
from expraug.networks.fer_classifier import load_fer_classifier
from recipes.pairs.made import FLOW_SIDE, Pairs, mirrored
from recipes.real_faces import FER2013, LFW, LONDON, Faces

HAPPY = int(Expression.HAPPY)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def pairs(run_recipe: Callable[..., str], face_sets: Path, work: Path) -> Pairs:
    arguments = ("--out", work / "pairs", "--work", work, "--least", "0.4", "--count", "12")
    printed = run_recipe("pairs.make_pairs", face_sets, *arguments)
    assert "12 faces" in printed
    assert "not convincing" in printed
    return Pairs.load(work / "pairs")


def test_pairs_are_of_training_people_and_change_what_is_shown(pairs: Pairs, work: Path) -> None:
    assert len(pairs) >= 5
    assert len(pairs.face) == 12
    assert (pairs.target != pairs.shown[pairs.source]).all()
    assert len(set(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True))) == len(pairs)
    known = [Faces.load(file) for file in work.glob("*.npz")]
    held_out = [
        crop
        for faces in known
        for crop, name in zip(faces.grey().numpy(), faces.person, strict=True)
        if name and person_split(name) != "train"
    ]
    assert held_out
    assert {faces.origin[0] for faces in known} == {LONDON, LFW, FER2013}
    assert not any((face == other).all() for face in pairs.face for other in held_out)


def test_what_is_kept_convinces_and_can_be_made_again(pairs: Pairs) -> None:
    rows = np.arange(len(pairs))
    faces, maps = pairs.faces(rows).expand(-1, 3, -1, -1), pairs.maps(rows)
    assert maps.flow.shape[1:] == (2, FLOW_SIDE, FLOW_SIDE)
    torch.testing.assert_close(
        maps.lips, lips_of(torch.from_numpy(pairs.mesh[pairs.source])), atol=1e-4, rtol=0
    )
    classifier = load_fer_classifier()
    made = maps.applied(faces).render(faces)
    column = [classifier.expressions.index(Expression(int(t))) for t in pairs.target]
    before, after = (classifier.probabilities(f)[rows, column] for f in (faces, made))
    # halves of numbers and coarser maps tell a little less
    assert (torch.maximum(after, after - before) > 0.3).float().mean() > 0.9
    assert (after - torch.from_numpy(np.array(pairs.probability))).abs().mean() < 0.05


def test_mirrored_maps_make_mirrored_faces(pairs: Pairs) -> None:
    rows = np.arange(min(4, len(pairs)))
    faces, maps = pairs.faces(rows).expand(-1, 3, -1, -1), pairs.maps(rows)
    made = maps.applied(faces).render(faces)
    turned = mirrored(maps).applied(faces.flip(3)).render(faces.flip(3)).flip(3)
    assert (made - faces).abs().mean() > 0.01
    assert (turned - made).abs().mean() < 0.1 * (made - faces).abs().mean()


def test_photographs_of_one_person_find_each_other(pairs: Pairs) -> None:
    both = np.flatnonzero(pairs.photographed >= 0)
    other = pairs.photographed[both]
    assert (pairs.person[both] == pairs.person[other]).all()
    assert (pairs.shown[both] != pairs.shown[other]).all()
