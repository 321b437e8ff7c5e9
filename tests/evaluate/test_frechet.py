from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from expraug import Expression
from expraug.evaluate import frechet
from expraug.evaluate.frechet import (
    frechet_distance,
    frechet_estimate,
    gaussian_distance,
    shrunk_covariance,
)

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


def test_distance_between_gaussians_with_diagonal_covariances() -> None:
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    mean = np.array([1.0, -2.0, 0.5])
    expected = mean @ mean + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert gaussian_distance(mean, np.diag(a), 0 * mean, np.diag(b)) == pytest.approx(expected)


def test_distance_does_not_depend_on_the_axes() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    a, b = (np.cov(rng.normal(size=(4, 30))) for _ in range(2))
    mean, zero = rng.normal(size=4), np.zeros(4)
    plain = gaussian_distance(mean, a, zero, b)
    turned = gaussian_distance(turn @ mean, turn @ a @ turn.T, zero, turn @ b @ turn.T)
    assert turned == pytest.approx(plain)
    assert gaussian_distance(zero, b, mean, a) == pytest.approx(plain)


def test_distance_to_itself_is_nothing_even_with_fewer_faces_than_features() -> None:
    features = np.random.default_rng(0).normal(size=(12, 128))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_shrinkage_vanishes_with_many_samples_and_keeps_the_trace() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 2.0, 3.0])
    many = rng.normal(size=(50_000, 3)) * scale
    assert shrunk_covariance(many) == pytest.approx(np.cov(many.T, bias=True), abs=0.01)
    few = rng.normal(size=(5, 40))
    shrunk = shrunk_covariance(few)
    assert np.trace(shrunk) == pytest.approx(np.trace(np.cov(few.T, bias=True)))
    assert np.linalg.eigvalsh(shrunk).min() > 0.1


def test_samples_come_near_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4000, 8)), rng.normal(size=(4000, 8)) * 2 + 1
    people = [str(i) for i in range(4000)]
    found = frechet_estimate(a, b, people, people)
    assert found.value == pytest.approx(8 * 1 + 8 * 1, rel=0.05)
    assert found.low < found.value < found.high


def test_synthetics_that_come_nearer_have_the_smaller_distance(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    levels = [0.1 + 0.01 * i for i in range(12)]
    data = plain(levels + [0.6 + x for x in levels], [NEUTRAL] * 12 + [HAPPY] * 12)
    found = frechet.measure(in_context(data, brighten())).targets["happy"]
    assert found.real == found.synthetic.n == 12
    assert found.synthetic.value < found.sources.value
    few = in_context(plain([0.1] * 3, [NEUTRAL] * 3), brighten())
    frechet.measure(few)
    assert "fewer than 10 faces" in few.skipped["Fréchet distance, happy"]
