"""The smaller measures, on faces whose figures are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from expraug import Expression, create_synthesizer
from expraug.evaluate import failures, throughput, untouched
from expraug.evaluate.untouched import reach
from expraug.faces.detect import CROP_POINTS, DetectedFace
from expraug.pipeline import SynthesisRequest

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


def test_failures_are_listed_by_reason(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    data = plain([0.1, 0.1, 0.9, 0.9], [NEUTRAL] * 4)
    data.lost["no_face"] = 1
    found = failures.measure(in_context(data, brighten()))
    lines = {(line.measure, line.expression): line for line in found.lines()}
    assert lines["images used", ""][2:] == ("0.800", "1 no_face", "5")
    assert lines["made", "happy"][2:] == ("0.500", "2 unchanged", "4")


def test_reach_covers_the_face_and_no_more() -> None:
    face = DetectedFace((CROP_POINTS * 100 + 50).astype(np.float32))
    inside = reach(np.zeros((200, 200, 3), np.uint8), face, 128)
    assert inside[100, 100]
    assert not inside[:30].any()
    assert not inside[:, 175:].any()


def test_a_pipeline_that_touches_the_background_is_caught(
    neutral_images: list[np.ndarray], crops: Callable, in_context: Callable, brighten: type
) -> None:
    model = brighten()
    model.most = 1
    context = in_context(crops(neutral_images[:2], [NEUTRAL] * 2, ["a", "b"]), model)
    assert untouched.measure(context).share == 1
    spoilt = []
    context.outcomes = lambda *_: iter(spoilt)
    for image in neutral_images[:2]:
        (outcome,) = context.augmenter([image], [SynthesisRequest(HAPPY)])
        outcome.image[:3] ^= 1
        spoilt.append((image, outcome))
    found = untouched.measure(context)
    assert found.images == 2
    assert found.share < 1


def test_throughput_counts_images_through_the_pipeline(
    neutral_images: list[np.ndarray], crops: Callable, in_context: Callable
) -> None:
    data = crops(neutral_images[:3], [NEUTRAL] * 3, list("abc"))
    context = in_context(data, create_synthesizer("pixel"))
    found = throughput.measure(context)
    assert found.parameters == 258_798
    assert (found.width, found.height, found.batch_size) == (256, 256, 3)
    assert 0 < found.images_per_second < 10_000
    assert context.augmenter.stats["made"] >= 7
