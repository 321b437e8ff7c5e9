"""What nets learn from synthetics whose worth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from expraug import Expression
from expraug.evaluate import gan_train
from expraug.evaluate.face_set import TooFewFacesError
from expraug.evaluate.gan_train import average_precision
from expraug.synthesizer import Synthesizer

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


class Smile(Synthesizer):
    """Draws the smile of the faces below."""

    name = "smile"
    image_size = 32
    expressions = (HAPPY,)

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        made = faces.clone()
        made[:, :, 16:] += 150 / 255
        return made.clamp(0, 1)


class Lighten(Smile):
    """Changes something, but draws no smile."""

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        return (faces + 0.1).clamp(0, 1)


def two_classes(crops: Callable, count: int = 100) -> object:
    """Noise, which is dark below in neutral faces and bright in smiling ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(20, 60, (count, 32, 32, 3)).astype(np.uint8)
    for image in images[1::2]:
        image[rng.integers(13, 19) :] += rng.integers(60, 180).astype(np.uint8)
    return crops(list(images), [NEUTRAL, HAPPY] * (count // 2), [f"p{i}" for i in range(count)])


@pytest.mark.parametrize(("synthesizer", "useful"), [(Smile, True), (Lighten, False)])
def test_only_synthetics_that_show_the_class_teach_it(
    synthesizer: type[Synthesizer], useful: bool, crops: Callable, in_context: Callable
) -> None:
    context = in_context(two_classes(crops), synthesizer())
    found = gan_train.measure(context, steps=60, seeds=1)
    happy = found.targets["happy"]
    assert found.classes == ["neutral", "happy"]
    assert happy.real.value > 0.9
    assert happy.synthetic.n == 50
    assert happy.faces == 25
    assert (happy.synthetic.value > 0.9) == useful
    assert (happy.ratio.value > 0.9) == useful
    assert happy.ratio.low <= happy.ratio.value <= happy.ratio.high
    if not useful:
        assert happy.synthetic.value < 0.75, "it guesses: half of the faces smile"


def test_too_few_faces_of_a_class_are_named(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1] * 10, [NEUTRAL, HAPPY] * 5), brighten())
    with pytest.raises(TooFewFacesError, match=r"happy: needs 10 faces .* 2 real"):
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
