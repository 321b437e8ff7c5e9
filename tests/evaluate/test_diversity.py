"""Diversity of real smiles, and of one smile on everybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from real_smiles import Smiles

from expraug import Expression
from expraug.evaluate import Bootstrap, diversity
from expraug.evaluate.diversity import covered, mean_square_distance, relative_spread

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


@pytest.fixture(scope="module")
def real(smiles: Smiles) -> diversity.TargetDiversity:
    """What is measured of real smiles."""
    return diversity.measure(smiles.context(smiles.happy)).targets["happy"]


@pytest.mark.shared
def test_real_smiles_are_diverse_and_cover(real: diversity.TargetDiversity) -> None:
    found = real
    for space in ("landmarks", "features"):
        assert 0.75 < found.spread[space].value < 1.3
        assert found.spread[space].low < 1 < found.spread[space].high
        own = found.coverage[space]
        assert own.coverage.value > own.real_coverage.value - 0.1 > 0.6
        assert own.faces >= 10


@pytest.mark.shared
def test_one_smile_on_everybody_is_not_diverse(
    smiles: Smiles, real: diversity.TargetDiversity
) -> None:
    one = diversity.measure(smiles.context(smiles.one_for_all())).targets["happy"]
    assert one.spread["landmarks"].value < 0.6
    assert one.spread["landmarks"].high < real.spread["landmarks"].value
    assert one.spread["features"].value < real.spread["features"].value


@pytest.mark.shared
def test_without_pairs_faces_of_the_class_stand_in_for_landmarks(smiles: Smiles) -> None:
    at = smiles.data.of(HAPPY).tolist()
    people = [f"{p} elsewhere" if i in at else p for i, p in enumerate(smiles.data.people)]
    given = {
        "data": replace(smiles.data, people=people),
        "bootstrap": Bootstrap(people, rounds=200),
    }
    real = diversity.measure(smiles.context(smiles.happy, **given)).targets["happy"]
    one = diversity.measure(smiles.context(smiles.one_for_all(), **given)).targets["happy"]
    assert real.compared == f"{len(at)} real faces"
    assert list(real.spread) == ["landmarks"]
    assert set(real.coverage) == {"landmarks", "features"}
    assert one.spread["landmarks"].value < 0.6 * real.spread["landmarks"].value


@pytest.mark.shared
def test_copies_neither_change_nor_cover(smiles: Smiles) -> None:
    found = diversity.measure(smiles.context(smiles.neutral))
    copies = found.targets["happy"]
    assert copies.spread["landmarks"].value == copies.spread["features"].value == 0
    features = copies.coverage["features"]
    assert features.coverage.value < features.real_coverage.value / 2
    assert features.density.value < features.real_density.value / 2
    lines = {line.measure: line for line in found.lines()}
    assert f"{len(smiles.data.of(HAPPY))} real pairs" in lines["diversity, landmarks"].beside
    assert lines["coverage, features"].beside == f"real {features.real_coverage.value:.3f}"


def test_it_is_skipped_where_there_is_too_little(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    levels = [0.1] * 12 + [0.5] * 12
    context = in_context(plain(levels, [NEUTRAL] * 12 + [HAPPY] * 12), brighten())
    assert not diversity.measure(context).targets
    assert context.skipped["diversity and coverage, happy"]


def names(count: int, of: str = "p") -> list[str]:
    return [f"{of}{i}" for i in range(count)]


def test_spread_is_relative_to_what_repeats_do_not_explain() -> None:
    rng = np.random.default_rng(0)
    people = names(400)
    bootstrap = Bootstrap(people, rounds=100)
    made = rng.normal(size=(400, 6)) * 1.5 + 7, people
    repeats = rng.normal(size=(400, 6)) * 4, people
    real = rng.normal(size=(400, 6)) * 5 - 2, people
    found = relative_spread(made, real, repeats, bootstrap)
    assert found.value == pytest.approx(0.5, abs=0.05)  # as 5² − 4² = 3²
    assert found.low < 0.5 < found.high
    assert np.isnan(relative_spread(made, repeats, real, bootstrap).value)


def test_photographs_of_one_person_are_not_compared() -> None:
    rows, people = np.array([[0.0], [1.0], [3.0]]), ["a", "a", "b"]
    found = mean_square_distance(rows, people, Bootstrap(people, rounds=10))
    assert found[0] == (9 + 4) / 2
    assert set(found[np.isfinite(found)]) == {6.5}


def test_a_clump_covers_little_and_a_like_sample_as_much_as_real_ones() -> None:
    rng = np.random.default_rng(1)
    real, alike = rng.normal(size=(2, 300, 4))
    like = covered(real, names(300), alike, names(300, "q"))
    assert like.coverage.value == pytest.approx(like.real_coverage.value, abs=0.05)
    assert like.density.value == pytest.approx(like.real_density.value, abs=0.15)
    assert like.coverage.low < like.real_coverage.value < like.coverage.high
    clump = covered(real, names(300), alike * 0.05, names(300, "q"))
    assert clump.coverage.value < 0.5 < like.coverage.value
    assert clump.density.value > 1.2 * like.density.value
    far = covered(real, names(300), alike + 50, names(300, "q"))
    assert far.coverage.value == far.density.value == 0
