"""Figures of clips whose motion is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from crop_augmenter import MeanFaceDetector
from scipy.stats import spearmanr
from torch import Tensor

from expraug import Expression, ExpressionAugmenter, create_synthesizer
from expraug.datasets.readers import Clip
from expraug.evaluate import Context
from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.classifier_recall import short_name
from expraug.evaluate.clips import (
    ALL,
    ClipMeasures,
    MadeClips,
    change_over_time,
    cross_faded,
    estimates,
    expression_over_time,
    make_clips,
    onset_curve,
    progress,
    raised_cosine,
    rank_correlation,
    step_sizes,
)
from expraug.evaluate.face_set import TooFewFacesError
from expraug.faces import CropDetector
from expraug.networks.fer_classifier import load_fer_classifier

HAPPY, NEUTRAL = Expression.HAPPY, Expression.NEUTRAL


@pytest.fixture(scope="module")
def context(neutral_images: list[np.ndarray], crops, in_context) -> Context:
    data = crops(neutral_images[:4], [NEUTRAL] * 4, ["a", "b", "c", "c"])
    return in_context(data, create_synthesizer("pixel"), classifiers=(load_fer_classifier(),))


@pytest.fixture(scope="module")
def made(context: Context) -> MadeClips:
    return make_clips(context, HAPPY, torch.arange(4), 5)


@pytest.fixture(scope="module")
def clips(made: MadeClips) -> Tensor:
    return made.frames


def moving(curve: list[float] | np.ndarray, apex: float = 0.5) -> Tensor:
    """One clip of 16 px that brightens along a curve: (1, T, 3, 16, 16)."""
    return torch.as_tensor(np.asarray(curve) * apex).float().view(1, -1, 1, 1, 1).expand(
        -1, -1, 3, 16, 16
    )  # fmt: skip


def test_clips_are_what_the_pipeline_makes(context: Context, clips: Tensor) -> None:
    assert clips.shape == (4, 5, 3, 128, 128)
    assert torch.equal(clips[:, 0], context.data.faces.float() / 255)
    image = context.data.items[1].read()
    augmenter = ExpressionAugmenter("pixel", alignment=MeanFaceDetector(), check_landmarks=False)
    frames = augmenter.clip(image, NEUTRAL, HAPPY, 5)
    for frame, seen in zip(frames, clips[1], strict=True):
        assert torch.equal(context.align(image, frame.transpose(1, 2, 0)).float() / 255, seen)


def test_a_clip_that_cannot_be_made_counts_as_not_recognised(
    plain, in_context, brighten, encoder
) -> None:
    context = in_context(plain([0.1, 0.9], [NEUTRAL] * 2), brighten())
    made = make_clips(context, HAPPY, torch.arange(2), 4)
    assert made.made.tolist() == [True, False]
    assert len(made.frames) == 1
    found = ClipMeasures([context.classifier], encoder, -1.0, raised_cosine(4))(made, HAPPY)
    name = short_name(context.classifier.name)
    assert found[f"apex recall, {name}"].tolist() == [1, 0]
    assert np.isnan(found[f"apex probability, {name}"]).tolist() == [False, True]
    nothing = make_clips(context, HAPPY, torch.tensor([1]), 4)
    with pytest.raises(TooFewFacesError, match="no clip of happy"):
        ClipMeasures([context.classifier], encoder, 0.5, raised_cosine(4))(nothing, HAPPY)


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


def test_every_figure_with_its_interval(made: MadeClips, encoder) -> None:
    clips = made.frames
    classifier, people = load_fer_classifier(), ["a", "b", "c", "c"]
    name, bootstrap = short_name(classifier.name), Bootstrap(people)
    measure = ClipMeasures([classifier], encoder, 0.9, raised_cosine(5))
    still = MadeClips(clips[:, :1].expand(-1, 5, -1, -1, -1), made.made)
    real = {name: {HAPPY: np.full(1001, 0.8)}}
    rows = {
        name: estimates({HAPPY: (measure(of, HAPPY), people)}, real, bootstrap)
        for name, of in (("clip", made), ("still", still))
    }
    for figures in rows.values():
        assert all(set(row) == {ALL, "happy"} for row in figures.values())
        assert all(row[ALL] == row["happy"] or math.isnan(row[ALL].value)
                   for row in figures.values())  # fmt: skip
        recall = figures[f"apex recall, {name}"][ALL]
        assert figures[f"apex recall, synthetic/real, {name}"][ALL].value == recall.value / 0.8
    moved, unmoved = ({n: row[ALL].value for n, row in f.items()} for f in rows.values())
    seen = classifier.probabilities((clips[:, -1] * 255).round() / 255)
    column = classifier.expressions.index(HAPPY)
    apex = f"apex probability, {name}"
    assert moved[f"apex recall, {name}"] == pytest.approx((seen.argmax(1) == column).float().mean())
    for middle in ("half of the change", "half of the time"):
        assert moved[apex] > moved[f"probability at {middle}, {name}"] > unmoved[apex]
    assert moved["ACD-I"] > moved["ACD-C"] > 0
    assert moved["cosine, mean"] >= moved["cosine, worst frame"]
    assert moved[f"rank correlation with time, {name}"] > 0.5
    # a straight way takes four steps of a quarter; what moves goes a little further
    assert moved["mean step / whole change"] == pytest.approx(1 / 4, abs=0.06)
    assert unmoved["ACD-I"] == pytest.approx(0, abs=1e-3)
    assert unmoved["verified in every frame"] == unmoved[f"never falls, {name}"] == 1
    assert unmoved["stands still"] == 1
    assert math.isnan(unmoved["distance to real onset"])
    assert rows["clip"][apex][ALL].n == 4


def test_the_two_middles_are_different_frames(neutral_images, happy_images) -> None:
    first, last = (
        torch.from_numpy(i[0]).permute(2, 0, 1) / 255 for i in (neutral_images, happy_images)
    )
    late = torch.stack([first, first, first, last, last])[None]
    classifier = load_fer_classifier()
    name = short_name(classifier.name)
    found = expression_over_time(classifier, late, HAPPY, torch.tensor([3]))
    assert found[f"recall at half of the change, {name}"].tolist() == [1]
    assert found[f"recall at half of the time, {name}"].tolist() == [0]


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
