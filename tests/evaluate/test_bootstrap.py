from __future__ import annotations

import math

import numpy as np
import pytest

from expraug.evaluate.bootstrap import Bootstrap, Estimate, ratio


def test_mean_and_interval_of_known_values() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, 400)
    people = [f"p{i}" for i in range(400)]
    found = Bootstrap(people).estimate(values, people)
    assert found.value == pytest.approx(values.mean())
    assert found.n == 400
    # of a mean of independent values: ± 1.96 σ / √n
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.06)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06)


def test_photographs_of_one_person_count_as_one() -> None:
    values = np.random.default_rng(2).normal(0, 1, 50)
    people = [f"p{i}" for i in range(50)]
    alone = Bootstrap(people).estimate(values, people)
    ten_times = Bootstrap(people).estimate(np.repeat(values, 10), np.repeat(people, 10).tolist())
    assert ten_times.high - ten_times.low == pytest.approx(alone.high - alone.low, rel=1e-6)


def test_same_seed_same_interval() -> None:
    people = ["a", "b", "c"]
    values = np.array([0.0, 1.0, 1.0])
    first, again = (Bootstrap(people, seed=7).estimate(values, people) for _ in range(2))
    assert first == again


def test_ratio_of_recalls() -> None:
    people = ["a", "b", "c", "d"]
    bootstrap = Bootstrap(people)
    made = bootstrap.mean(np.array([1, 1, 0, 0]), people)
    real = bootstrap.mean(np.array([1, 1, 1, 0, 1]), [*people, "d"])
    found = Estimate.of(ratio(made, real), 4)
    assert found.value == pytest.approx(0.5 / 0.8)
    assert found.low < found.value < found.high


def test_a_classifier_that_recognises_nothing_gives_no_ratio() -> None:
    bootstrap = Bootstrap(["a"])
    nothing = bootstrap.mean(np.zeros(1), ["a"])
    found = Estimate.of(ratio(nothing, nothing), 1)
    assert math.isnan(found.value)
    assert str(found) == "–"
