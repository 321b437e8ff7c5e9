"""Readings of expressions from landmarks: many people, mixed from the sample faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("scipy")
from expraug import Expression
from expraug.faces.landmarks import LandmarkDetector
from expraug.networks.face_mesh import load_face_landmarker
from recipes.transfer.expression_measures import explained, gap, one_sided, slope
from recipes.transfer.expression_readings import (
    LandmarkSet,
    Model,
    apply,
    deviations,
    fit,
    fit_two_covariances,
    joined,
    lay_over,
    lend,
    levelled,
    steady_points,
)
from recipes.transfer.ict_facekit import displacement, fit_kit, load_kit
from recipes.transfer.mesh import mirror_index

PEOPLE = 240


@pytest.fixture(scope="module")
def sample(neutral_images: list[np.ndarray], happy_images: list[np.ndarray]) -> Tensor:
    """Landmarks of the sample people, neutral and smiling, (2, P, 478, 2), laid over each other."""
    found = LandmarkDetector("crop")([*neutral_images, *happy_images])
    meshes = [torch.from_numpy(f.mesh).double() / 256 for f in found if f is not None]
    landmarks = torch.stack(meshes)
    landmarks = landmarks - landmarks[:, [168]] + torch.tensor([0.5, 0.38])
    nothing = torch.zeros(len(landmarks), dtype=torch.long)
    empty = torch.zeros(len(landmarks), 52, dtype=torch.float64)
    faces = LandmarkSet(landmarks, empty, empty[:, :3], nothing, nothing)
    points = steady_points(joined(faces, faces.flipped()))
    return lay_over(landmarks, points).unflatten(0, (2, -1))


def with_scores(landmarks: Tensor, expression: Tensor, person: Tensor) -> LandmarkSet:
    """Return faces that look ahead, with the scores that their landmarks get."""
    with torch.no_grad():
        scores = load_face_landmarker().blendshapes(landmarks.float()).double()
    pose = torch.randn(len(landmarks), 3, dtype=torch.float64)
    return LandmarkSet(landmarks, scores, pose, expression, person)


@pytest.fixture(scope="module")
def people(sample: Tensor) -> LandmarkSet:
    """Two neutral photographs and a smile of each of 240 people, mixtures of the sample people."""
    torch.manual_seed(0)
    rest, smile = sample[0], sample[1] - sample[0]
    mix = torch.softmax(2 * torch.randn(2, PEOPLE, len(rest)).double(), 2)
    own = torch.einsum("np,pkd->nkd", mix[0], rest)
    moved = torch.einsum("np,pkd->nkd", mix[1], smile)
    landmarks = torch.cat([own, own, own + moved])
    landmarks = landmarks + 2e-4 * torch.randn_like(landmarks)
    label = torch.tensor([0, 0, int(Expression.HAPPY)]).repeat_interleave(PEOPLE)
    return with_scores(landmarks, label, torch.arange(PEOPLE).repeat(3))


@pytest.fixture(scope="module")
def known(people: LandmarkSet) -> LandmarkSet:
    return people.take(people.person < PEOPLE * 3 // 4)


@pytest.fixture(scope="module")
def others(people: LandmarkSet) -> LandmarkSet:
    return people.take(people.person >= PEOPLE * 3 // 4)


@pytest.fixture(scope="module")
def model(known: LandmarkSet) -> Model:
    return fit(known)


def read(model: Model, faces: LandmarkSet) -> Tensor:
    return apply(model, faces.landmarks, faces.scores, faces.pose)


def test_deviation_is_the_difference_to_other_neutral_photographs() -> None:
    values = torch.tensor([[1.0], [3.0], [7.0], [5.0], [9.0]])
    person = torch.tensor([0, 0, 0, 1, 2])
    expression = torch.tensor([0, 0, 1, 0, 1])
    faces = LandmarkSet(values, values, values, expression, person)
    rows, away = deviations(values, faces)
    assert rows.tolist() == [0, 1, 2]
    assert away[:, 0].tolist() == [-2, 2, 5]


def test_landmarks_are_laid_over_whatever_their_place_turn_and_size(sample: Tensor) -> None:
    faces = sample[0]
    turn = 1.7 * torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    points = faces[0, [*range(21)]]
    torch.testing.assert_close(lay_over(faces @ turn.T + 3, points), lay_over(faces, points))


@pytest.mark.parametrize("learn", [fit, fit_two_covariances])
def test_smiles_of_other_people_are_read(
    learn: Callable[[LandmarkSet], Model], known: LandmarkSet, others: LandmarkSet
) -> None:
    model = learn(known)
    rows, away = deviations(levelled(model, others.landmarks, others.pose), others)
    smiling = others.expression[rows] == int(Expression.HAPPY)
    found = read(model, others.take(rows)).flatten(1)
    assert explained(away[smiling], found[smiling]) > 0.8
    moved = found.square().sum(1)
    assert moved[~smiling].mean() < 0.1 * moved[smiling].mean()


def test_mirror_image_is_read_as_the_mirror_image(known: LandmarkSet, others: LandmarkSet) -> None:
    model = fit(known, one_sided=0)  # MediaPipe's own scores are not quite symmetric
    flipped = others.flipped()
    found, other = read(model, others), read(model, flipped)
    index = torch.from_numpy(mirror_index(others.landmarks.mean(0).numpy()))
    again = other[:, index] * torch.tensor([-1.0, 1.0])
    assert (again - found).square().mean() < 1e-3 * found.square().mean()


def test_half_of_a_smile_is_read_as_half(model: Model, others: LandmarkSet) -> None:
    smiling = others.expression == int(Expression.HAPPY)
    whole, rest = others.take(smiling).landmarks, others.landmarks[: int(smiling.sum())]
    side = torch.sigmoid((0.5 - rest[..., :1]) / 0.03)
    away = side * (whole - rest)
    faces = with_scores(rest + away, others.expression[smiling], others.person[smiling])
    assert 0.9 < slope(one_sided(away), one_sided(read(model, faces))) < 1.1


def test_crowd_teaches_what_named_people_never_show(known: LandmarkSet) -> None:
    neutral = known.take(known.expression == 0)
    lower = torch.zeros(478, 2, dtype=torch.float64)
    lower[[61, 291], 1] = 0.03
    sad = torch.full_like(neutral.expression, int(Expression.SAD))
    sunk = with_scores(neutral.landmarks + lower, sad, neutral.person)
    crowd = joined(neutral, sunk)
    drop = {
        name: float(read(m, sunk)[:, [61, 291], 1].mean())
        for name, m in (("alone", fit(known)), ("crowd", fit(known, crowd)))
    }
    assert abs(drop["crowd"] - 0.03) < 0.5 * abs(drop["alone"] - 0.03)


def test_lent_expression_has_the_exemplars_gap_between_the_lips(
    model: Model, others: LandmarkSet
) -> None:
    smiling = others.take(others.expression == int(Expression.HAPPY))
    calm = others.take(torch.arange(len(smiling)))
    lain = [
        lay_over(f.landmarks, model["points"])
        for f in (calm, smiling.take(torch.arange(len(smiling)).flip(0)))
    ]
    shut = lain[0].flip(0)
    own, lent = read(model, calm), read(model, smiling).flip(0)
    opened = lend(model, lain[0].clone(), own, lent, lain[1])
    closed = lend(model, lain[0].clone(), own, lent, shut)
    assert gap(lain[1]).mean() > gap(lain[0]).mean() + 1
    torch.testing.assert_close(gap(opened), gap(lain[1]), atol=2.0, rtol=0.2)
    torch.testing.assert_close(gap(closed), gap(shut), atol=0.3, rtol=0.2)


@pytest.mark.shared
def test_ict_face_is_found_at_the_landmarks_and_fitted_to_them(
    shared: Path, sample: Tensor
) -> None:
    models = shared / "models"
    kit = load_kit(
        models / "ict_facekit.npz", models / "ict_vertex_indices.json", sample[0].mean(0)
    )
    assert kit.residual < 0.25
    jaw = kit.shape("jawOpen")
    assert jaw[152, 1] > 0.1
    assert jaw[[13, 10, 33, 263], 1].abs().max() < 0.01
    given = torch.zeros(2, len(kit.names), dtype=torch.float64)
    given[0, kit.names.index("jawOpen")] = 0.6
    given[1, kit.names.index("mouthSmile_L")] = 0.9
    front = torch.eye(2, 3, dtype=torch.float64).expand(2, -1, -1) / kit.scale
    found, camera = fit_kit(kit, sample[0].mean(0) + displacement(kit, given, front))
    assert found.argmax(1).tolist() == given.argmax(1).tolist()
    true, seen = displacement(kit, given, front), displacement(kit, found, camera)
    assert explained(true, seen) > 0.8
