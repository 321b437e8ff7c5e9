from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from expraug import Expression
from expraug.evaluate import Context, classifier_recall
from expraug.evaluate.face_set import TooFewFacesError

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


def of_happy(context: Context) -> classifier_recall.TargetRecall:
    (told_by,) = classifier_recall.measure(context).classifiers.values()
    return told_by.targets["happy"]


def test_recall_of_a_known_classifier_and_synthesizer(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    data = plain([0.1, 0.2, 0.3, 0.4] + [0.9] * 8 + [0.1] * 2, [NEUTRAL] * 4 + [HAPPY] * 10)
    context = in_context(data, brighten())
    found = classifier_recall.measure(context)
    (told_by,) = found.classifiers.values()
    happy = told_by.targets["happy"]
    assert happy.real.value == pytest.approx(0.8)
    assert happy.synthetic.value == pytest.approx(3 / 4), "the fourth was not made: not seen"
    assert happy.ratio.value == pytest.approx(0.75 / 0.8)
    assert happy.ratio.low < happy.ratio.value <= happy.ratio.high
    assert happy.rises
    assert happy.curve[0] == pytest.approx(0.25, abs=0.01), "at 0 it is the source"
    assert told_by.mean is not None
    assert told_by.mean.value == happy.ratio.value
    told = {(line.measure, line.expression): line for line in found.lines()}
    assert told["recall ratio, brightness", "happy"].beside == "0.750 synthetic, 0.800 of 10 real"


def test_a_face_that_is_seen_by_itself_counts_only_if_it_was_made(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.9] * 4 + [0.9] * 10, [NEUTRAL] * 4 + [HAPPY] * 10), brighten())
    happy = of_happy(context)
    assert happy.synthetic.value == 0
    assert happy.curve == pytest.approx([0.9] * 3, abs=0.01), "users get the source"


def test_recall_of_other_sources(plain: Callable, in_context: Callable, brighten: type) -> None:
    data = plain(
        [0.1, 0.1, 0.1, 0.4] + [0.9] * 10, [NEUTRAL] * 2 + [Expression.SAD] * 2 + [HAPPY] * 10
    )
    context = in_context(data, brighten())
    happy = of_happy(context)
    assert happy.other_sources == "sad"
    assert happy.other_recall is not None
    assert happy.other_recall.value == 0.5


def test_what_the_classifier_does_not_know_is_skipped(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1] * 4, [NEUTRAL] * 4), brighten())
    with pytest.raises(TooFewFacesError, match="no real face shows it"):
        classifier_recall.measure_target(context, context.classifier, HAPPY)
    with pytest.raises(TooFewFacesError, match="does not know"):
        classifier_recall.measure_target(context, context.classifier, Expression.FEAR)
    found = classifier_recall.measure(context)
    assert found.classifiers["brightness"].mean is None
    assert "reference" in context.skipped["classifier recall, brightness, happy"]


def test_faces_that_are_never_recognised_give_no_ratio(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1] * 4 + [0.1] * 10, [NEUTRAL] * 4 + [HAPPY] * 10), brighten())
    assert math.isnan(of_happy(context).ratio.value)


def test_more_recall_than_real_faces_have_is_a_miss_too(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    data = plain([0.1] * 8 + [0.9] * 4 + [0.1] * 8, [NEUTRAL] * 8 + [HAPPY] * 12)
    (found,) = classifier_recall.measure(in_context(data, brighten())).classifiers.values()
    assert found.mean is not None
    assert found.two_sided is not None
    assert found.mean.value == pytest.approx(3)
    assert found.two_sided.value == pytest.approx(1 / 3)
    assert found.targets["happy"].shift.value > 0.5


def test_distance_between_distributions() -> None:
    values = np.random.default_rng(0).normal(size=400)
    assert classifier_recall.wasserstein(values, values) == 0
    assert classifier_recall.wasserstein(values, values + 0.7) == pytest.approx(0.7)
    assert classifier_recall.wasserstein(values, -values[::-1]) < 0.2
    assert math.isnan(classifier_recall.wasserstein(values, np.array([])))
