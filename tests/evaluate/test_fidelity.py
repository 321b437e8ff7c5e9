from __future__ import annotations

import numpy as np
import pytest
import torch

from expraug.datasets import FaceItem
from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.face_set import FaceSet
from expraug.evaluate.fidelity import (
    UnlikePhotographsError,
    frechet_distance,
    frechet_estimate,
    gaussian_distance,
    measure_pairs,
    shrunk_covariance,
)
from expraug.expressions import Expression


def two_people(source: torch.Tensor, target: torch.Tensor) -> FaceSet:
    """Two people, each neutral and happy."""
    faces = torch.stack([source, target, source, target])
    labels = torch.tensor([0, 1, 0, 1])
    people = ["a", "a", "b", "b"]
    return FaceSet("set", faces, labels, people, [FaceItem(p, "", p, b"") for p in people])


def test_pairs_against_known_values() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(20, 200, (3, 64, 64), generator=generator).byte()
    data = two_people(source, source + 10)
    indices, made = data.of(Expression.NEUTRAL), (source + 5).expand(2, -1, -1, -1)
    found = measure_pairs(data, Expression.HAPPY, indices, made, Bootstrap(data.people))
    assert found is not None
    assert found.copy_psnr.value == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert found.psnr_gain.value == pytest.approx(20 * np.log10(2), abs=1e-3)
    assert found.ssim.n == 2
    assert found.ssim_gain.value > 0
    assert measure_pairs(data, Expression.SAD, indices, made, Bootstrap(data.people)) is None


def test_photographs_that_differ_in_all_are_no_pairs() -> None:
    source, target = torch.randint(0, 255, (2, 3, 64, 64)).byte()
    data = two_people(source, target)
    indices = data.of(Expression.NEUTRAL)
    with pytest.raises(UnlikePhotographsError, match="pose and light"):
        measure_pairs(data, Expression.HAPPY, indices, data.faces[indices], Bootstrap(data.people))


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
