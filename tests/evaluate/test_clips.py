"""Figures of clips whose motion is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from expraug import Expression, create_synthesizer
from expraug.datasets.readers import Clip
from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.clips import (
    ALL,
    ClipMeasures,
    change_over_time,
    cross_faded,
    estimates,
    make_clips,
    onset_curve,
    progress,
    raised_cosine,
    rank_correlation,
    step_sizes,
)
from expraug.evaluate.face_set import TooFewFacesError, aligned
from expraug.faces import CropDetector, face_mask
from expraug.networks.fer_classifier import load_fer_classifier

HAPPY, NEUTRAL = Expression.HAPPY, Expression.NEUTRAL


@pytest.fixture(scope="module")
def sources(neutral_images: list[np.ndarray]) -> Tensor:
    detector = CropDetector()
    found = [aligned(i, detector([i])[0].points, 128) for i in neutral_images[:4]]
    return torch.stack(found)


@pytest.fixture(scope="module")
def clips(sources: Tensor) -> Tensor:
    return make_clips(create_synthesizer("pixel"), sources, HAPPY, 5)


def moving(curve: list[float] | np.ndarray, apex: float = 0.5) -> Tensor:
    """One clip of 16 px that brightens along a curve: (1, T, 3, 16, 16)."""
    return torch.as_tensor(np.asarray(curve) * apex).float().view(1, -1, 1, 1, 1).expand(
        -1, -1, 3, 16, 16
    )  # fmt: skip


def test_clips_are_what_paste_back_lets_through(sources: Tensor, clips: Tensor) -> None:
    model = create_synthesizer("pixel")
    faces = sources.float() / 255
    change = model(faces, torch.full((4,), int(HAPPY)), torch.ones(4)) - faces
    assert torch.equal(clips[:, 0], faces)
    assert torch.allclose(clips[:, -1], (faces + change * face_mask(128)).clamp(0, 1), atol=1e-6)


def test_a_synthesizer_of_another_size(sources: Tensor) -> None:
    larger = torch.nn.functional.interpolate(sources.float(), (192, 192), mode="bilinear")
    clips = make_clips(create_synthesizer("pixel"), larger.round().to(torch.uint8), HAPPY, 3)
    assert clips.shape == (4, 3, 3, 192, 192)
    change = (clips[:, -1] - clips[:, 0]).abs()
    assert change.max() > 0.1
    assert not change[..., :5].any(), "outside the mask every pixel stays"


def test_cross_fading_keeps_ends_and_timing() -> None:
    curve = [0, 0.1, 0.5, 0.9, 1]
    clip = moving(curve)
    assert torch.allclose(cross_faded(clip), clip, atol=1e-6), "brightening is a cross-fade"
    square = torch.zeros(1, 5, 3, 16, 16)
    for k in range(5):
        square[0, k, :, 6:10, 4 + k : 8 + k] = 1  # moves to the right, out of its own place
    faded = cross_faded(square)
    assert torch.equal(faded[:, [0, -1]], square[:, [0, -1]])
    assert torch.allclose(progress(step_sizes(faded)), progress(step_sizes(square)), atol=1e-5)
    assert faded[0, 2, 0, 6:10, 4:12].max() < 0.7, "two faint squares instead of one"


def test_smoothness_of_known_motion() -> None:
    even, jump = np.linspace(0, 1, 9), np.repeat([0.0, 1.0], [5, 4])
    onset = raised_cosine(9)
    found, half = change_over_time(torch.cat([moving(c) for c in (even, onset, jump)]), onset)
    assert found["mean step / whole change"] == pytest.approx([1 / 8] * 3, abs=1e-5)
    largest = [1 / 8, np.diff(onset).max(), 1]
    assert found["largest step, share of all"] == pytest.approx(largest, abs=1e-5)
    bends = found["second difference / whole change"]
    assert bends[0] == pytest.approx(0, abs=1e-5)
    assert bends[0] < bends[1] < bends[2]
    assert bends[2] == pytest.approx(2 / 7, abs=1e-5)
    distance = [np.abs(c - onset).mean() for c in (even, onset, jump)]
    assert found["distance to real onset"] == pytest.approx(distance, abs=1e-5)
    assert half.tolist() == [4, 4, 5]


def test_a_clip_that_stands_still_has_no_motion_to_measure() -> None:
    found, half = change_over_time(moving(np.zeros(5)), raised_cosine(5))
    assert found["stands still"].tolist() == [1]
    assert half.tolist() == [2]
    for name, values in found.items():
        if name != "stands still":
            assert np.isnan(values).all(), name


def test_there_and_back_is_a_longer_way() -> None:
    found, _ = change_over_time(moving([0, 1, 0, 1]), raised_cosine(4))
    assert found["mean step / whole change"] == pytest.approx([1])


def test_rank_correlation_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).random((5, 12)).round(1)  # with ties
    expected = [spearmanr(row, np.arange(12)).statistic for row in values]
    assert rank_correlation(values) == pytest.approx(expected)
    assert np.isnan(rank_correlation(np.ones((1, 4)))).all()


def test_every_figure_with_its_interval(clips: Tensor, encoder) -> None:
    classifier, people = load_fer_classifier(), ["a", "b", "c", "c"]
    bootstrap = Bootstrap(people)
    measure = ClipMeasures(classifier, encoder, 0.9, raised_cosine(5))
    still = clips[:, :1].expand(-1, 5, -1, -1, -1)
    real = {HAPPY: np.full(1001, 0.8)}
    rows = {
        name: estimates({HAPPY: (measure(of, HAPPY), people)}, real, bootstrap)
        for name, of in (("clip", clips), ("still", still))
    }
    for figures in rows.values():
        assert all(set(row) == {ALL, "happy"} for row in figures.values())
        assert all(row[ALL] == row["happy"] or math.isnan(row[ALL].value)
                   for row in figures.values())  # fmt: skip
        agreement = figures["apex agreement"][ALL]
        assert figures["apex agreement / real faces"][ALL].value == agreement.value / 0.8
    made, unmoved = ({n: row[ALL].value for n, row in f.items()} for f in rows.values())
    seen = classifier.probabilities((clips[:, -1] * 255).round() / 255)
    column = classifier.expressions.index(HAPPY)
    assert made["apex agreement"] == pytest.approx((seen.argmax(1) == column).float().mean())
    assert made["apex probability"] > made["middle probability"] > unmoved["apex probability"]
    assert made["ACD-I"] > made["ACD-C"] > 0
    assert made["cosine, mean"] >= made["cosine, worst frame"]
    assert made["rank correlation with time"] > 0.5
    assert made["mean step / whole change"] == pytest.approx(1 / 4, abs=0.01)
    assert unmoved["ACD-I"] == pytest.approx(0, abs=1e-3)
    assert unmoved["verified in every frame"] == unmoved["never falls"] == 1
    assert unmoved["stands still"] == 1
    assert math.isnan(unmoved["distance to real onset"])
    assert rows["clip"]["apex probability"][ALL].n == 4


def test_the_onset_of_real_sequences(neutral_images, happy_images, tmp_path: Path) -> None:
    from PIL import Image

    first, last = (images[0].astype(float) for images in (neutral_images, happy_images))
    shares = [0, 0.05, 0.2, 0.6, 1, 0.3]  # the last is behind the apex
    paths = []
    for k, share in enumerate(shares):
        paths.append(tmp_path / f"{k}.png")
        mixed = first + share * (last - first)
        Image.fromarray(mixed.round().astype(np.uint8)).save(paths[-1])
    clip = Clip("s", "happy", "s", tuple(paths), "p", apex=4)
    curve = onset_curve([clip], CropDetector(), 5)
    assert curve == pytest.approx(shares[:5], abs=0.02)
    assert onset_curve([clip, clip], CropDetector(), 9)[::2] == pytest.approx(curve)
    short = Clip("s", "happy", "s", tuple(paths[:3]), "p", apex=2)
    late = Clip("s", "happy", "s", tuple(paths), "p", apex=4, starts_neutral=False)
    with pytest.raises(TooFewFacesError, match="none of the 2 sequences"):
        onset_curve([short, late], CropDetector(), 5)
