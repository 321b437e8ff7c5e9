"""Real faces, with their votes, read once."""

from pathlib import Path

import numpy as np
import pytest

from expraug.expressions import Expression
from recipes.real_faces import (
    FER2013,
    FILES,
    LFW,
    Faces,
    drawing_weights,
    extract,
    targets_of,
    training_faces,
)

NEUTRAL, HAPPY, SAD = (int(e) for e in (Expression.NEUTRAL, Expression.HAPPY, Expression.SAD))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def known(face_sets: Path, work: Path) -> Faces:
    return training_faces(face_sets, work, None)


def test_only_training_people_with_votes_for_some_expression(known: Faces) -> None:
    assert set(known.split) == {"train"}
    from_fer = known.take(np.flatnonzero(known.origin == FER2013))
    assert 1 not in from_fer.row, "unknown to seven of ten"
    assert 20 not in from_fer.row, "no image"
    assert len(from_fer) == 19
    assert len(known) - len(from_fer) == 14


def test_targets_are_the_shares_of_the_votes_without_single_ones(known: Faces) -> None:
    targets = targets_of(known)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    happy = known.expression == HAPPY
    voted = known.origin == FER2013
    np.testing.assert_allclose(
        targets[happy & voted, HAPPY], 1, err_msg="one for sad, one for fear"
    )
    assert (targets[happy & ~voted, HAPPY] < 1).all()
    assert (targets[happy & ~voted].argmax(1) == HAPPY).all()
    assert (known.majority == known.expression).all()


def test_majority_needs_more_votes_than_all_others(known: Faces) -> None:
    some = known.take(np.arange(4))
    some.votes[:] = 0
    some.votes[0, [HAPPY, SAD]] = 0.5, 0.5
    some.votes[1, HAPPY] = 0.4
    some.votes[2, [HAPPY, SAD]] = 0.6, 0.4
    some.votes[3, [HAPPY, SAD, NEUTRAL]] = 0.4, 0.3, 0.3
    assert some.majority.tolist() == [-1, -1, HAPPY, HAPPY]


def test_rare_classes_are_drawn_more_often(known: Faces) -> None:
    rare = known.take(np.r_[np.flatnonzero(known.expression == HAPPY)[:3],
                            np.flatnonzero(known.expression == NEUTRAL)])  # fmt: skip
    weight = drawing_weights(rare)
    shown = rare.votes.argmax(1)
    assert weight[shown == HAPPY].mean() > 1.5 * weight[shown == NEUTRAL].mean()


def test_landmarks_lie_in_the_aligned_face(known: Faces) -> None:
    eyes = known.mesh[:, [33, 263]]
    assert np.ptp(eyes[:, :, 1], axis=1).max() < 0.1
    assert (eyes[:, 1, 0] - eyes[:, 0, 0]).min() > 0.3
    assert known.crop.shape[1:] == (1, 128, 128)


def test_what_was_found_is_found_once(face_sets: Path, work: Path, known: Faces) -> None:
    before = {file: file.stat().st_mtime_ns for file in work.iterdir()}
    again = training_faces(face_sets, work, None)
    assert {file: file.stat().st_mtime_ns for file in work.iterdir()} == before
    np.testing.assert_array_equal(again.crop, known.crop)


def test_validation_and_duplicates_are_told(face_sets: Path, work: Path) -> None:
    held = extract(FER2013, face_sets / FILES[FER2013][1], work)
    assert set(held.split) == {"validation"}
    assert held.duplicate.tolist() == [True] + [False] * (len(held) - 1)
    lfw = extract(LFW, face_sets / FILES[LFW][0], work)
    assert (lfw.split == "validation").sum() == 6
    assert set(lfw.half) <= {0, 1}
