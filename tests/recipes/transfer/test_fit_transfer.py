"""The fit of `transfer`'s geometry, on faces made by a known linear rule."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("cv2")
from recipes.real_faces import FER2013, LFW, LONDON, Faces
from recipes.transfer.geometry import fit_shape, identity_components, ridge
from recipes.transfer.mesh import LANDMARKS, MIRRORED_SCORES, MOVES, STABLE, flip, inside, stabilise

COUNT, SCORES = 2000, 52


@pytest.fixture(scope="module")
def mirror() -> np.ndarray:
    """Which landmark each becomes in a flipped face: neighbours pair up, but for known middles."""
    pairs = {33: 263, 133: 362, 109: 338, 127: 356, 234: 454, 21: 251}
    swap = np.arange(LANDMARKS)
    for left, right in pairs.items():
        swap[left], swap[right] = right, left
    middle = {168, 6, 197, 10}
    rest = [i for i in range(LANDMARKS) if i not in middle and swap[i] == i]
    swap[rest[::2]], swap[rest[1::2]] = rest[1::2], rest[::2]
    return swap


@pytest.fixture(scope="module")
def made(mirror: np.ndarray) -> tuple[Faces, np.ndarray, np.ndarray, np.ndarray]:
    """Return faces, the basis that moved them, their resting mesh, and the identities."""
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.1, 0.9, (LANDMARKS, 2))
    mean = np.where((np.arange(LANDMARKS) < mirror)[:, None], mean, flip(mean[mirror]))
    mean[mirror == np.arange(LANDMARKS), 0] = 0.5
    basis = rng.normal(0, 0.02, (SCORES, LANDMARKS, 2))
    basis[:, list(STABLE)] = 0  # expressions leave these alone: stabilising takes nothing away
    basis = (basis + basis[MIRRORED_SCORES][:, mirror] * [-1, 1]) / 2
    scores = rng.uniform(0, 1, (COUNT, SCORES))
    person = rng.normal(0, 1, (COUNT, 24))
    build = rng.normal(0, 0.003, (24, LANDMARKS, 2))
    build = (build + build[:, mirror] * [-1, 1]) / 2
    build[:, list(STABLE)] = 0
    mesh = mean + np.einsum("ns,skd->nkd", scores, basis) + np.einsum("np,pkd->nkd", person, build)
    # heads are turned, shifted and scaled in the picture
    angle, size = rng.normal(0, 0.05, COUNT), rng.uniform(0.95, 1.05, COUNT)
    c, s = size * np.cos(angle), size * np.sin(angle)
    turn = np.stack([np.stack([c, -s], 1), np.stack([s, c], 1)], 1)
    centred = np.einsum("nij,nkj->nki", turn, mesh - 0.5) + 0.5
    pose = rng.normal(0, 3, (COUNT, 3))
    faces = Faces(
        crop=np.zeros((COUNT, 1, 1, 1), np.uint8),
        mesh=centred.astype(np.float32),
        scores=scores.astype(np.float32),
        pose=pose.astype(np.float32),
        expression=np.arange(COUNT) % 7,
        votes=np.eye(8, dtype=np.float32)[np.arange(COUNT) % 7],
        origin=np.arange(COUNT) // 7 % 3,
        row=np.arange(COUNT),
        person=np.full(COUNT, ""),
        split=np.full(COUNT, "train"),
        duplicate=np.zeros(COUNT, bool),
        half=np.zeros(COUNT, int),
    )
    assert {LONDON, LFW, FER2013} == set(faces.origin.tolist())
    return faces, basis, mean, person


def test_ridge_recovers_a_linear_map_and_shrinks_with_the_penalty() -> None:
    rng = np.random.default_rng(1)
    x, true = rng.normal(size=(500, 6)), rng.normal(size=(6, 3))
    weight = rng.uniform(0.5, 1, 500)
    free = ridge(x, x @ true, np.full(6, 1e-12), weight)
    np.testing.assert_allclose(free, true, atol=1e-8)
    held = ridge(x, x @ true, np.full(6, 1.0), weight)
    assert np.linalg.norm(held) < 0.8 * np.linalg.norm(true)


def test_basis_is_recovered_whatever_the_head_pose_and_person(
    made: tuple[Faces, np.ndarray, np.ndarray, np.ndarray], mirror: np.ndarray
) -> None:
    faces, basis, _, person = made
    fitted = fit_shape(faces, identity_components(person))
    np.testing.assert_array_equal(fitted["mirror"], mirror)
    # the fitted frame may be scaled against the true one by the mean of the heads' sizes
    found = fitted["basis"].reshape(SCORES, LANDMARKS, 2)
    scale = (found * basis).sum() / (basis * basis).sum()
    assert scale == pytest.approx(1, abs=0.02)
    assert np.abs(found - scale * basis).max() < 0.02 * np.abs(basis).max()
    assert np.abs(fitted["basis_yaw"]).max() < 0.02 * np.abs(basis).max()


def test_basis_of_a_flipped_face_is_the_flipped_basis(
    made: tuple[Faces, np.ndarray, np.ndarray, np.ndarray], mirror: np.ndarray
) -> None:
    faces, _, _, person = made
    found = fit_shape(faces, identity_components(person))["basis"].reshape(SCORES, LANDMARKS, 2)
    flipped = found[MIRRORED_SCORES][:, mirror] * [-1, 1]
    np.testing.assert_allclose(found, flipped, atol=1e-3 * np.abs(found).max())


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


def test_mirrored_scores_are_an_involution_and_gaze_does_not_move() -> None:
    assert (MIRRORED_SCORES[MIRRORED_SCORES] == np.arange(SCORES)).all()
    assert MOVES.sum() == SCORES - 9
