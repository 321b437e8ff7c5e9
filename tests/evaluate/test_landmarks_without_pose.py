"""Landmarks without pose, and reading each face once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from expraug import Expression, create_synthesizer
from expraug.evaluate import Context
from expraug.evaluate import landmarks as module
from expraug.evaluate.face_set import FaceSet, collect
from expraug.evaluate.landmarks import FACE, REGIONS, features, landmarks, per_face, without_pose
from expraug.faces.detect import create_detector
from expraug.networks.face_mesh import load_face_landmarker

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


def projected(yaw: float, pitch: float, opened: float = 0) -> np.ndarray:
    """The canonical mesh, turned by degrees and projected: (478, 2), fractions of a frame."""
    mesh = load_face_landmarker().canonical.double().numpy() * [1, -1, -1]
    mesh[list(REGIONS["jaw"]), 1] += opened
    a, b = np.radians([yaw, pitch])
    turned = mesh @ np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    turned = turned @ np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    points = turned[:, :2] / 18 + [0.45, 0.6]
    return np.concatenate([points, np.zeros((10, 2))])


def test_a_turned_head_comes_back_to_the_front() -> None:
    poses = [(0, 0), (25, 0), (-40, 10), (5, -20)]
    points, frontal = without_pose(np.stack([projected(*pose) for pose in poses]))
    assert points == pytest.approx(np.broadcast_to(points[:1], points.shape), abs=1e-6)
    cosines = [np.cos(np.radians(yaw)) * np.cos(np.radians(pitch)) for yaw, pitch in poses]
    assert frontal == pytest.approx(cosines, abs=1e-6)
    moved, _ = without_pose(projected(25, 0)[None] * 0.7 + 0.1)
    assert moved == pytest.approx(points[:1], abs=1e-6)


def test_a_jaw_that_drops_stays_dropped() -> None:
    closed, _ = without_pose(projected(0, 0)[None])
    dropped, _ = without_pose(projected(20, 5, opened=1.0)[None])
    gone = dropped[0] - closed[0]
    jaw = list(REGIONS["jaw"])
    others = [i for name in ("brows", "eyes", "nose") for i in REGIONS[name]]
    assert gone[jaw, 1].mean() > 0.04
    assert abs(gone[others]).max() < 0.01


def test_regions_are_disjoint_and_their_own_mirror_images() -> None:
    mesh = load_face_landmarker().canonical.numpy()
    every = [i for part in REGIONS.values() for i in part]
    assert len(set(every)) == len(every)
    assert max(every) < len(mesh)
    for part in REGIONS.values():
        here = mesh[list(part)]
        distance = np.linalg.norm((here * [-1, 1, 1])[:, None] - here, axis=2)
        assert distance.min(1).max() < 0.05  # cm


@pytest.fixture(scope="module")
def data(faces: Path) -> FaceSet:
    """Three people, neutral and smiling."""
    return collect([faces], create_detector("detect"), split="all", limit=3)


@pytest.fixture
def context(data: FaceSet, in_context: Callable) -> Context:
    found: Context = in_context(data, create_synthesizer("pixel"))
    return found


def test_mouths_of_smiles_are_wider(context: Context) -> None:
    data = context.data
    at, then = data.of(NEUTRAL), data.of(HAPPY)
    assert data.who(at) == data.who(then)
    neutral, happy = landmarks(context, data.who(at), data.faces[at], data.faces[then])
    assert neutral.people == happy.people == data.who(at)
    widths = [part.points[:, 291, 0] - part.points[:, 61, 0] for part in (neutral, happy)]
    assert (widths[1] > widths[0] + 0.02).all()
    assert neutral.of("nose").shape == (3, 2 * len(REGIONS["nose"]))
    assert neutral.of(FACE).shape == (3, 2 * sum(map(len, REGIONS.values())))


def test_who_has_no_face_in_one_photograph_is_left_out(context: Context) -> None:
    before, after = context.data.faces[:3], context.data.faces[3:].clone()
    after[1] = 128
    found = landmarks(context, ["a", "b", "c"], before, after)
    assert [part.people for part in found] == [["a", "c"]] * 2
    assert [len(part.points) for part in found] == [2, 2]
    assert [len(part) for part in landmarks(context, [], before[:0], after[:0])] == [0, 0]


def test_each_face_is_read_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(faces: Tensor) -> Tensor:
        read.append(len(faces))
        return faces.mean((2, 3))

    monkeypatch.setattr(module, "_READ_AT_ONCE", 2)
    faces = context.data.faces
    twice = per_face(context, "mean", torch.cat([faces[:3], faces[:3]]), counted)
    assert twice[:3] == pytest.approx(twice[3:])
    assert twice[0] == pytest.approx((faces[0].double() / 255).mean((1, 2)).numpy(), abs=1e-5)
    per_face(context, "mean", faces, counted)
    assert read == [2, 1, 2, 1]
    assert features(context, faces) == pytest.approx(per_face(context, "mean", faces, counted))
