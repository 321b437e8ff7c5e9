"""What is measured is what users get."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from crop_augmenter import MeanFaceDetector

from expraug import Expression, ExpressionAugmenter, create_synthesizer
from expraug.errors import MissingWeightsError
from expraug.evaluate.evaluation import run_measures
from expraug.evaluate.face_set import SIZE, TooFewFacesError, aligned
from expraug.evaluate.measures import Measure
from expraug.evaluate.result import Line, Result
from expraug.faces import CropDetector
from expraug.pipeline import SynthesisRequest

NEUTRAL, HAPPY, SAD = Expression.NEUTRAL, Expression.HAPPY, Expression.SAD


@pytest.mark.parametrize("name", ["pixel", "unet_cgan"])
def test_synthetics_are_the_pipelines_bytes(
    name: str, neutral_images: list[np.ndarray], crops: Callable, in_context: Callable
) -> None:
    images, people = neutral_images[:3], ["a", "b", "c"]
    context = in_context(crops(images, [NEUTRAL] * 3, people), create_synthesizer(name))
    found = context.synthetics(HAPPY, 0.8)
    augmenter = ExpressionAugmenter(name, alignment=MeanFaceDetector(), check_landmarks=False)
    # neighbours are asked for variants that lie far apart
    variants = [37 * k % augmenter.variants for k in range(3)]
    assert len(set(variants)) == min(3, augmenter.variants)
    outcomes = augmenter(images, [SynthesisRequest(HAPPY, 0.8, v) for v in variants])
    for k, (image, outcome) in enumerate(zip(images, outcomes, strict=True)):
        (face,) = CropDetector()([image])
        assert face is not None
        assert torch.equal(found.faces[k], aligned(outcome.image, face.points))
        assert not torch.equal(found.faces[k], context.data.faces[k])
    assert found.faces.shape == (3, 3, SIZE, SIZE)
    assert found.made.all()
    assert torch.equal(context.synthetics(HAPPY, 0).faces, context.data.faces)


def test_what_cannot_be_made_is_the_source_with_its_reason(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1, 0.3, 0.4, 0.2], [NEUTRAL] * 4), brighten())
    found = context.synthetics(HAPPY)
    assert found.made.tolist() == [True, True, False, True]
    assert found.reasons == ("", "", "unchanged", "")
    assert torch.equal(found.faces[2], context.data.faces[2])
    assert found.made_of.tolist() == [0, 1, 3]
    assert context.failures() == {"happy": {"unchanged": 1}}


def test_full_synthetics_are_made_once(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1] * 6, [NEUTRAL] * 6), brighten())
    assert context.synthetics(HAPPY) is context.synthetics(HAPPY)
    assert context.augmenter.stats["made"] == 6
    context.synthetics(HAPPY, 0.5, keep=False)
    context.synthetics(HAPPY, 0.5, keep=False)
    assert context.augmenter.stats["made"] == 18


def test_sources_are_neutral_where_they_can_be(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1, 0.1, 0.2], [NEUTRAL, SAD, HAPPY]), brighten())
    sources, others = context.sources(HAPPY), context.other_sources(HAPPY)
    assert (sources.indices.tolist(), sources.shown) == ([0], "neutral")
    assert (others.indices.tolist(), others.shown) == ([1], "sad")
    many = in_context(plain([0.1] * 8, [NEUTRAL] * 3 + [SAD] * 5), brighten())
    assert many.other_sources(HAPPY).indices.tolist() == [3, 5, 7], "no more than the sources"
    no_neutral = in_context(plain([0.1, 0.2], [SAD, HAPPY]), brighten())
    assert no_neutral.sources(HAPPY).shown == "sad"
    assert not len(no_neutral.other_sources(HAPPY))


def test_the_reference_stands_in_for_rare_classes_only(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    data = plain([0.1] * 12 + [0.9] * 3, [NEUTRAL] * 12 + [HAPPY] * 3)
    reference = plain([0.9] * 12, [HAPPY] * 12, "reference")
    context = in_context(data, brighten(), reference=reference)
    assert context.real(HAPPY) is reference
    assert context.real(NEUTRAL) is data
    assert in_context(data, brighten()).real(HAPPY) is data


class Counted(Result):
    def lines(self) -> list[Line]:
        return [Line("counted", "", "1")]


def counting(context) -> Counted:
    context.synthetics(HAPPY)
    return Counted()


def test_progress_reaches_its_end(plain: Callable, in_context: Callable, brighten: type) -> None:
    told: list[tuple[str, int, int]] = []
    context = in_context(
        plain([0.1] * 30, [NEUTRAL] * 30),
        brighten(),
        progress=lambda *step: told.append(step),
    )
    results = run_measures(context, [Measure("counted", counting)])
    assert results["counted"].lines() == [Line("counted", "", "1")]
    steps, done, totals = zip(*told, strict=True)
    assert "making happy, intensity 1" in steps
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert done[-1] == totals[-1]


def test_what_lacks_something_is_named_and_the_rest_goes_on(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    def lacking(context) -> Result:
        raise MissingWeightsError("no weights at nowhere")

    context = in_context(plain([0.1] * 3, [NEUTRAL] * 3), brighten())
    found = run_measures(context, [Measure("lacking", lacking), Measure("counted", counting)])
    assert list(found) == ["counted"]
    assert context.skipped == {"lacking": "no weights at nowhere"}


def test_stopping_keeps_what_was_measured(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    def by_target(context) -> Result:
        def of(target: Expression) -> int:
            if target is SAD:
                raise KeyboardInterrupt
            if target is HAPPY:
                raise TooFewFacesError("too few")
            return 1

        assert context.by_target("figures", of) == {"neutral": 1}
        return Counted()

    def never(context) -> Result:
        raise AssertionError("it was stopped")

    context = in_context(plain([0.1] * 3, [NEUTRAL] * 3), brighten())
    context.targets = (HAPPY, NEUTRAL, SAD, Expression.FEAR)
    context.synthetics(HAPPY)
    found = run_measures(context, [Measure("first", by_target), Measure("second", never)])
    assert list(found) == ["first"]
    assert context.stopped
    assert context.skipped["figures, happy"] == "too few"
    assert "stopped" in context.skipped["figures, sad and what follows"]
    assert "stopped" in context.skipped["second"]
