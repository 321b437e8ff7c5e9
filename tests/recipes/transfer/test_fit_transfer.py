"""The fit of `transfer`, on people mixed from the sample faces by a known linear rule."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("cv2")
from transfer_faces import CORNERS, neutral_people, read

from expraug import Expression, create_synthesizer
from expraug.networks.face_mesh import load_face_landmarker
from expraug.synthesizers import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import LendingFaces, bank_of, with_bank, with_exemplars
from expraug.synthesizers.transfer.reading import turned
from recipes.real_faces import FER2013, LFW, LONDON, Faces
from recipes.transfer.convincing import believed, convincing
from recipes.transfer.deviation import examples, inputs, symmetric_axes
from recipes.transfer.expression_readings import ridge
from recipes.transfer.fit import (
    BRIGHTEST_EYE,
    BRIGHTEST_SKIN,
    learn_expected_skin,
    lending,
    masks,
    with_usual_smile,
    without_exemplars,
)
from recipes.transfer.mesh import (
    LANDMARKS,
    LIDS,
    MIRRORED_SCORES,
    STABLE,
    inside,
    stabilise,
)

PEOPLE, CROWD = 60, 90
NEUTRAL, HAPPY, SURPRISE = Expression.NEUTRAL, Expression.HAPPY, Expression.SURPRISE
DARK = (slice(76, 84), slice(20, 108))
"""Rows and columns of the aligned faces that get darker when these people smile: the cheeks."""
JAW = (152, 148, 377, 176, 400, 17, 14, 87, 317, 178, 402, 88, 318, 95, 324, 84, 314, 181, 405)
"""Landmarks that sink when these people are surprised."""


@pytest.fixture(scope="module")
def people(neutral_images: list[np.ndarray], happy_images: list[np.ndarray]) -> Faces:
    """Two neutral photographs and a smile of each of 60 people, and a crowd of 90 without names of
    whom a third are neutral, smile, or are surprised."""
    rng = np.random.default_rng(0)
    (faces, rest), (_, smile) = read(neutral_images), read(happy_images)
    still, smiling = rest["landmarks"].numpy(), smile["landmarks"].numpy()
    change = smiling - still
    grey = faces.mean(1).numpy()
    groups = [(PEOPLE, (NEUTRAL, NEUTRAL, HAPPY), LFW)]
    groups += [(CROWD // 3, (e,), FER2013) for e in (NEUTRAL, HAPPY, SURPRISE)]
    mesh, label, origin, person, crop = [], [], [], [], []
    for count, shown, place in groups:
        for i in range(count):
            mix = rng.dirichlet(np.full(len(still), 0.5))
            own = np.einsum("p,pkd->kd", mix, still)
            skin = np.einsum("p,pyx->yx", mix, grey)
            for e in shown:
                points = own + rng.normal(0, 5e-4, own.shape)
                light = skin + rng.normal(0, 0.01, skin.shape)
                if e is HAPPY:
                    points = points + np.einsum("p,pkd->kd", mix, change)
                    light[DARK] *= 0.6
                if e is SURPRISE:
                    points[list(JAW), 1] += 0.1
                mesh.append(points)
                crop.append(light)
                label.append(int(e))
                origin.append(place)
                person.append(f"person {i}" if place == LFW else "")
    total = len(mesh)
    points = np.stack(mesh).astype(np.float32)
    with torch.no_grad():
        scores = load_face_landmarker().blendshapes(torch.from_numpy(points)).numpy()
    return Faces(
        crop=(np.stack(crop)[:, None] * 255).clip(0, 255).astype(np.uint8),
        mesh=points,
        scores=scores.astype(np.float32),
        pose=rng.normal(0, 1.0, (total, 3)).astype(np.float32),
        expression=np.array(label),
        votes=np.eye(8, dtype=np.float32)[label],
        origin=np.array(origin),
        row=np.arange(total),
        person=np.array(person),
        split=np.full(total, "train"),
        duplicate=np.zeros(total, bool),
        half=np.zeros(total, int),
    )


@pytest.fixture(scope="module")
def fitted(people: Faces) -> TransferSynthesizer:
    return without_exemplars(people)


def test_ridge_recovers_a_linear_map_and_shrinks_with_the_penalty() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([np.ones((500, 1)), rng.normal(size=(500, 5))], 1)
    true, weight = rng.normal(size=(6, 3)), rng.uniform(0.5, 1, 500)
    seen = [torch.from_numpy(values) for values in (x, x @ true, weight)]
    np.testing.assert_allclose(ridge(*seen, 1e-9).numpy(), true, atol=1e-6)
    held = ridge(*seen, 500.0).numpy()
    assert np.linalg.norm(held[1:]) < 0.7 * np.linalg.norm(true[1:])


def test_axes_stay_or_change_their_sign_in_a_mirror() -> None:
    rng = np.random.default_rng(2)
    swap = np.array([1, 0, 3, 2, 4, 5])
    scales = np.array([3.0, 2.0, 1.0, 0.5])
    even = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]]) / np.sqrt(2)
    odd = np.array([[1, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0]]) / np.sqrt(2)
    true = np.stack([even[0], odd[0], even[1], odd[1]])
    values = (rng.normal(size=(20000, 4)) * scales) @ true
    axes, found, signs = symmetric_axes(values, values[:, swap], 4)
    np.testing.assert_allclose(axes[:, swap], axes * signs[:, None], atol=1e-5)
    assert signs.tolist() == [1, -1, 1, -1]
    np.testing.assert_allclose(found, scales, rtol=0.03)
    np.testing.assert_allclose(np.abs((axes * true).sum(1)), 1, atol=1e-3)


def test_examples_are_a_persons_own_and_those_of_groups(people: Faces) -> None:
    known = examples(people)
    assert len(known.row) == 3 * PEOPLE
    values = np.zeros((len(people), 2))
    values[:, 0] = people.expression
    values[:, 1] = [int(name.partition(" ")[2] or -1) for name in people.person]
    away = known.differences(values)
    assert (away[: len(known.row), 1] == 0).all(), "of one person"
    shown = people.expression[known.row]
    np.testing.assert_allclose(away[: len(known.row), 0], shown)
    for i, others in zip(known.row, known.rest, strict=True):
        assert i not in others
        assert (people.expression[others] == NEUTRAL).all()
    for group, resting in zip(known.shown, known.neutral, strict=True):
        assert len(set(people.expression[group])) == 1
        assert people.expression[group[0]] in (HAPPY, SURPRISE)
        assert (people.expression[resting] == NEUTRAL).all()
        assert (people.person[np.concatenate([group, resting])] == "").all()
    weight = known.weight(people.expression)
    assert len(weight) == len(known.row) + len(known.shown)
    assert weight[: len(known.row)][shown == HAPPY].min() > weight[0]


def test_it_reads_what_the_rule_moved_and_darkened(
    people: Faces, fitted: TransferSynthesizer
) -> None:
    named = people.take(np.flatnonzero(people.person != ""))
    landmarks = torch.from_numpy(named.mesh)
    scores, pose = torch.from_numpy(named.scores), torch.from_numpy(named.pose)
    found = fitted.reader(named.tensor(), landmarks, scores, pose)
    turn, shift = fitted.reader.steadying(landmarks)
    still = turned(landmarks, turn) + shift
    triples = still.view(PEOPLE, 3, LANDMARKS, 2)
    true = (triples[:, 2] - triples[:, :2].mean(1))[:, list(CORNERS)]
    read_off = fitted.reader.displacement(found.shape, still)[:, list(CORNERS)]
    read_off = read_off.view(PEOPLE, 3, 2, 2)
    error = (read_off[:, 2] - true).square().sum() / true.square().sum()
    assert error < 0.15
    assert read_off[:, :2].square().mean() < 0.2 * true.square().mean()

    light = fitted.reader.lightening(found.skin.view(PEOPLE, 3, -1)[:, 2].mean(0, keepdim=True))
    low, high = -0.1, 1.1
    rows = [round(((r.start + r.stop) / 256 - low) / (high - low) * 112) for r in DARK[:1]]
    dark = light[0, 0, rows[0] - 2 : rows[0] + 2, 30:80]
    assert dark.mean() < -0.15, "log 0.6 is -0.5, of which the local mean takes some"
    assert light[0, 0, 20:35, 40:70].abs().mean() < 0.1, "the forehead stays"


def test_the_fit_goes_from_faces_to_weights_that_load(
    people: Faces, fitted: TransferSynthesizer, tmp_path: Path
) -> None:
    assert set(fitted.config["rows"].values()) == {1}
    for name in ("mirrored_shape", "mirrored_skin"):
        assert getattr(fitted, name).abs().eq(1).all()
    given = lending(fitted, people)
    counts = np.bincount(given.expression.numpy(), minlength=8)
    assert counts[[NEUTRAL, HAPPY, SURPRISE]].min() > 20
    assert counts.sum() == len(given) == counts[[NEUTRAL, HAPPY, SURPRISE]].sum()
    fitted = copy.deepcopy(fitted)
    learn_expected_skin(fitted, given)
    left = fitted.unexplained(given.shape, given.skin)
    assert 0.6 < float((left <= fitted.most_unexplained).float().mean()) < 0.9
    smiling = given.take(given.expression == int(HAPPY))
    expected = fitted.expected_skin(smiling.shape)
    assert (smiling.skin - expected).square().sum() < 0.7 * smiling.skin.square().sum()
    model = with_exemplars(fitted, given, 16)
    assert model.config["rows"]["happy"] == 16
    assert model.config["rows"]["sad"] == 1
    model.save_pretrained(tmp_path)
    loaded = create_synthesizer(str(tmp_path))
    some = people.take(np.arange(4))
    known = {
        "landmarks": torch.from_numpy(some.mesh),
        "blendshapes": torch.from_numpy(some.scores),
        "pose": torch.from_numpy(some.pose),
    }
    faces, target = some.tensor(), torch.full((4,), int(SURPRISE))
    made = loaded.synthesize(faces, target, torch.ones(4), **known)
    assert made.flow is not None
    # the flow says where pixels come from: of a jaw that sinks, from above
    assert (made.flow[:, 1, 130:150, 80:112].mean((1, 2)) < -0.01).all()
    assert torch.equal(loaded(faces, target, torch.zeros(4), **known), faces)


def test_eyes_may_get_white_and_skin_does_not_shine(fitted: TransferSynthesizer) -> None:
    mask, brightest = masks(fitted.reference.double().numpy())
    assert mask.min() == 0
    assert mask.max() == 1
    assert brightest.min() == pytest.approx(BRIGHTEST_SKIN)
    assert brightest.max() == pytest.approx(BRIGHTEST_EYE, abs=0.05)
    middle = fitted.reference[list(sum(LIDS, ()))].mean(0)
    white = (BRIGHTEST_SKIN + BRIGHTEST_EYE) / 2
    bright = np.argwhere(brightest > white).mean(0)[::-1] / 112 * 1.2 - 0.1
    assert np.abs(bright - middle.numpy()).max() < 0.05


def test_of_two_exemplars_the_convincing_one_is_kept(
    neutral_images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = create_synthesizer("transfer")
    assert isinstance(embedded, TransferSynthesizer)
    own = bank_of(embedded)
    parts = []
    for e in embedded.expressions:
        first = own.take((own.expression == int(e)).nonzero()[:1, 0])
        parts.append(first)
        if e is HAPPY:  # and one who shows nothing
            nothing = LendingFaces(**vars(first))
            nothing.shape, nothing.skin = first.shape * 0, first.skin * 0
            nothing.gaps = first.gaps * 0
            parts.append(nothing)
    model = with_bank(embedded, LendingFaces.joined(parts))
    borrowers = neutral_people(neutral_images[:4])
    score = believed(model, borrowers)
    happy = (model.shows == int(HAPPY)).nonzero()[:, 0]
    assert score[happy[0]] > 5 * score[happy[1]]
    monkeypatch.setattr("recipes.transfer.convincing.KEPT", dict.fromkeys(Expression, 0.5))
    kept = convincing(model, score)
    assert kept.expression.tolist() == [int(e) for e in model.expressions]
    assert torch.equal(kept.shape[kept.expression == int(HAPPY)], parts[1].shape)


def test_stabilise_takes_out_similarities() -> None:
    rng = np.random.default_rng(2)
    mesh = rng.uniform(0, 1, (LANDMARKS, 2))
    turn = 1.3 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    moved = mesh @ turn.T + [0.2, -0.1]
    still, _ = stabilise(np.stack([mesh, moved]), mesh[list(STABLE)])
    np.testing.assert_allclose(still[1], mesh, atol=1e-9)


def test_inside_follows_a_concave_outline() -> None:
    outline = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], float)
    points = np.array([[1, 1], [2, 0.5], [2, 3], [3.5, 2], [5, 1]], float)
    assert inside(outline, points).tolist() == [True, True, False, True, False]


def test_mirrored_scores_are_an_involution() -> None:
    assert (MIRRORED_SCORES[MIRRORED_SCORES] == np.arange(52)).all()
    assert (np.arange(52) != MIRRORED_SCORES).sum() > 30


def test_the_usual_smile_comes_first_and_as_it_is(people: Faces) -> None:
    named = people.take(np.flatnonzero(people.person != ""))
    named = dataclasses.replace(named, origin=np.full(len(named), LONDON))
    embedded = create_synthesizer("transfer")
    assert isinstance(embedded, TransferSynthesizer)
    model = with_usual_smile(embedded, named)
    first = int((model.shows == int(HAPPY)).nonzero()[0])
    assert len(model.shows) == len(embedded.shows) + 1
    known = inputs(named)
    read_off = model.reader(named.tensor(), *known)
    smiling = torch.from_numpy(named.expression == int(HAPPY))
    mean = read_off.shape[smiling].mean(0) - read_off.shape[~smiling].mean(0)
    lent = model._lent(torch.tensor([first]), torch.tensor([False]))[0]
    torch.testing.assert_close(
        lent.shape[0] * model.shape_gain[int(HAPPY)], mean, atol=2e-3, rtol=2e-3
    )
    pose, target = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([int(HAPPY)])
    row, _ = model.choose(target, pose, torch.zeros(1, dtype=torch.long), known[0][:1])
    assert int(row) == first
