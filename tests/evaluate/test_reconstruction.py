from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from expraug import Expression
from expraug.errors import MissingDependencyError
from expraug.evaluate import reconstruction
from expraug.evaluate.face_set import collect
from expraug.evaluate.reconstruction import (
    UnlikePhotographsError,
    landmark_error,
    ssim_and_psnr,
)
from expraug.faces import create_detector

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


def two_people(source: np.ndarray, target: np.ndarray, crops: Callable):
    """Two people, each neutral and happy."""
    return crops([source, target] * 2, [NEUTRAL, HAPPY] * 2, ["a", "a", "b", "b"])


def test_pairs_against_known_values(crops: Callable, in_context: Callable, brighten: type) -> None:
    source = np.random.default_rng(0).integers(20, 150, (64, 64, 3)).astype(np.uint8)
    model = brighten()
    model.most = 1
    context = in_context(two_people(source, source + 100, crops), model)
    found = reconstruction.measure(context).targets["happy"]
    assert found.copy_psnr.value == pytest.approx(20 * np.log10(255 / 100), abs=0.02)
    made, real = context.synthetics(HAPPY).faces, context.data.faces[context.data.of(HAPPY)]
    error = ((made.float() - real.float()) / 255).square().mean((1, 2, 3))
    assert found.psnr.value == pytest.approx(float(-10 * torch.log10(error).mean()), abs=1e-3)
    assert found.psnr_gain.value == pytest.approx(found.psnr.value - found.copy_psnr.value)
    assert found.ssim.n == 2
    assert found.mouth_ssim.value == pytest.approx(found.ssim.value, abs=0.2)
    assert found.landmark_error.n == 0, "noise has no landmarks"


def test_equal_pictures_are_as_near_as_can_be() -> None:
    faces = torch.randint(0, 255, (2, 3, 32, 32)).byte()
    ssim, psnr = ssim_and_psnr(faces, faces)
    assert ssim == pytest.approx([1, 1])
    assert psnr.tolist() == [100, 100]


def test_landmarks_tell_a_smile_from_its_absence(faces: Path) -> None:
    data = collect([faces], create_detector("detect"), split="all", limit=4)
    pairs = [(i, j) for i in data.of(NEUTRAL).tolist() for j in data.of(HAPPY).tolist()]
    before, after = zip(*[p for p in pairs if data.people[p[0]] == data.people[p[1]]], strict=True)
    neutral, happy = data.faces[list(before)], data.faces[list(after)]
    assert landmark_error(happy, happy)[0] == pytest.approx([0] * len(happy), abs=1e-4)
    error, eyes = landmark_error(neutral, happy)
    assert (error / eyes > 0.02).all()
    assert (error / eyes < 0.3).all()
    assert eyes == pytest.approx([0.3 * 128] * len(happy), rel=0.15), "as the template has them"
    shifted = happy.roll(2, dims=3)
    assert landmark_error(shifted, happy)[0] == pytest.approx([2] * len(happy), abs=0.5)


def test_without_a_face_there_are_no_landmarks() -> None:
    grey = torch.full((1, 3, 64, 64), 128).byte()
    assert np.isnan(landmark_error(grey, grey)[0]).all()


def test_nobody_with_both_says_nothing(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1, 0.9], [NEUTRAL, HAPPY]), brighten())
    assert reconstruction.measure(context).targets == {}
    assert not context.skipped


def test_photographs_that_differ_in_all_are_no_pairs(
    crops: Callable, in_context: Callable, brighten: type
) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 200, (2, 128, 128, 3)).astype(np.uint8)
    model = brighten()
    model.most = 1
    context = in_context(two_people(source, target, crops), model)
    with pytest.raises(UnlikePhotographsError, match="pose and light"):
        reconstruction.measure_target(context, HAPPY)


def test_without_torchmetrics_the_package_is_named(
    plain: Callable, in_context: Callable, brighten: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    context = in_context(plain([0.1], [NEUTRAL]), brighten())
    with pytest.raises(MissingDependencyError, match=r"expraug\[train\]"):
        reconstruction.measure(context)
