"""What nets learn from synthetics whose worth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from expraug import Expression
from expraug.evaluate import gan_train
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.gan_train import average_precision
from expraug.synthesizer import Synthesizer

NEUTRAL, HAPPY, SAD = Expression.NEUTRAL, Expression.HAPPY, Expression.SAD


class Draw(Synthesizer):
    """Makes happy faces bright below, and sad ones bright on the left, as the real ones below."""

    name = "draw"
    image_size = 32
    expressions = (HAPPY, SAD)
    swapped = False

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        made = faces.clone()
        for face, wanted in zip(made, target.tolist(), strict=True):
            if (wanted == int(HAPPY)) != self.swapped:
                face[:, 16:] += 150 / 255
            else:
                face[:, :, :16] += 150 / 255
        return made.clamp(0, 1)


def three_classes(crops: Callable) -> FaceSet:
    rng = np.random.default_rng(0)
    images = rng.integers(20, 60, (120, 32, 32, 3)).astype(np.uint8)
    for image in images[1::3]:
        image[rng.integers(13, 19) :] += rng.integers(60, 180).astype(np.uint8)
    for image in images[2::3]:
        image[:, : rng.integers(13, 19)] += rng.integers(60, 180).astype(np.uint8)
    return crops(list(images), [NEUTRAL, HAPPY, SAD] * 40, [f"p{i}" for i in range(120)])


@pytest.mark.parametrize("swapped", [False, True])
def test_synthetics_teach_what_they_show(
    swapped: bool, crops: Callable, in_context: Callable
) -> None:
    model = Draw()
    model.swapped = swapped
    context = in_context(three_classes(crops), model, targets=(HAPPY, SAD))
    found = gan_train.measure(context, steps=60, seeds=2)
    assert found.classes == ["neutral", "happy", "sad"]
    for target in found.targets.values():
        assert target.real.value > 0.9
        assert target.synthetic.n == 40
        assert 15 <= target.faces <= 20
        assert (target.synthetic.value > 0.9) != swapped
        assert (target.ratio.value > 0.9) != swapped
        assert target.ratio.low <= target.ratio.value <= target.ratio.high
    assert (found.mean.value < 0.6) == swapped


def test_too_few_faces_of_a_class_are_named(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1] * 10, [NEUTRAL, HAPPY] * 5), brighten())
    with pytest.raises(TooFewFacesError, match=r"happy: needs 10 faces .* real"):
        gan_train.measure(context)


def test_average_precision_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=60), rng.random(60) < 0.3
    weights = rng.integers(0, 3, (4, 60)).astype(float)
    found = average_precision(scores, positive, weights)
    for row, value in zip(weights, found, strict=True):
        expected = metrics.average_precision_score(positive, scores, sample_weight=row)
        assert value == pytest.approx(expected)
