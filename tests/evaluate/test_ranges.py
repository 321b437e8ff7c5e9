"""Shares of made values outside the range of real ones."""

from __future__ import annotations

import numpy as np
import pytest

from expraug.evaluate import Bootstrap
from expraug.evaluate.ranges import outside

PEOPLE = [f"p{i}" for i in range(400)]
BOOTSTRAP = Bootstrap(PEOPLE, rounds=200)
REAL = np.random.default_rng(0).normal(size=400)


def test_of_like_values_one_in_twenty_is_beyond_either_bound() -> None:
    made = np.random.default_rng(1).normal(size=400)
    found = outside(made, PEOPLE, REAL, PEOPLE, BOOTSTRAP)
    for share in (found.below, found.above):
        assert share.value == pytest.approx(0.05, abs=0.03)
        assert share.low <= 0.05 <= share.high
        assert share.n == found.real == 400
    assert found.median == pytest.approx(found.real_median, abs=0.15)


def test_shifted_values_lie_on_their_side() -> None:
    low = outside(REAL - 5, PEOPLE, REAL, PEOPLE, BOOTSTRAP)
    assert (low.below.value, low.above.value) == (1, 0)
    high = outside(REAL + 1, PEOPLE, REAL, PEOPLE, BOOTSTRAP)
    assert high.above.value == pytest.approx(0.26, abs=0.06)
    assert high.below.value < 0.02


def test_bounds_are_the_quantiles_and_values_may_be_many_each() -> None:
    real = np.arange(101.0)  # quantiles 4.55 and 95.45: each value stands in the middle of 1/101
    made = np.array([[4.0, 5.0, 50.0, 96.0], [95.0, 95.0, 95.0, 97.0]])
    found = outside(made, PEOPLE[:2], real, PEOPLE[:101], BOOTSTRAP)
    assert found.below.value == 1 / 8
    assert found.above.value == 2 / 8
    assert found.below.n == 2


def test_the_interval_grows_where_real_values_are_few() -> None:
    made = np.random.default_rng(2).normal(size=300)
    many = outside(made, PEOPLE[:300], REAL, PEOPLE, BOOTSTRAP).above
    few = outside(made, PEOPLE[:300], REAL[:12], PEOPLE[:12], BOOTSTRAP).above
    assert few.high - few.low > 2 * (many.high - many.low)


def test_a_round_without_real_people_does_not_count() -> None:
    found = outside(REAL[:5], PEOPLE[:5], REAL[:1], PEOPLE[:1], Bootstrap(PEOPLE[:5], rounds=50))
    assert 0 <= found.below.low <= found.below.high <= 1
