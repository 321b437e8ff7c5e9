"""The instrument ranks by hand-made truth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expraug.evaluate import Context, build_context, classifier_recall
from expraug.evaluate.context import Synthetics
from expraug.evaluate.controls import copies, given_context, real_faces
from expraug.expressions import Expression

TARGETS = (Expression.HAPPY, Expression.SURPRISE, Expression.ANGRY)


@pytest.fixture(scope="module")
def context(shared: Path) -> Context:
    """Photographs of people that no classifier has seen, and FER2013's validation images."""
    return build_context(
        "pixel",  # makes nothing here
        [shared / "data/lfw_expressions/train.parquet"],
        reference=shared / "data/fer2013/validation.parquet",
        split="validation",
        targets=TARGETS,
        limit=16,
    )


@pytest.fixture(scope="module")
def control(context: Context) -> Context:
    """Real faces of the class instead of synthetic ones."""
    return real_faces(context)


@pytest.fixture(scope="module")
def whole(control: Context) -> classifier_recall.ClassifierRecall:
    """What is measured of them."""
    return classifier_recall.measure(control)


def test_real_faces_of_the_class_are_inside_on_both_sides(
    control: Context, whole: classifier_recall.ClassifierRecall
) -> None:
    assert set(control.targets) == set(TARGETS)
    assert control.compared is not None
    assert not set(control.data.people) & set(control.compared.people)
    for found in whole.classifiers.values():
        assert found.mean is not None
        assert found.mean.low < 1 < found.mean.high
        assert all(t.shift.low < 0.5 and t.shift.high > -0.5 for t in found.targets.values())


def test_copies_of_the_source_do_not_express_it(context: Context) -> None:
    for found in classifier_recall.measure(copies(context)).classifiers.values():
        assert found.mean is not None
        assert found.two_sided is not None
        assert found.mean.high < 0.5
        assert found.two_sided.high < 0.5
        assert all(t.shift.high < -0.5 for t in found.targets.values())
        assert not any(t.rises for t in found.targets.values())


def test_a_shuffled_label_is_wrong(control: Context) -> None:
    right = control
    order = [*TARGETS[1:], TARGETS[0]]
    wrong = {
        target: right.given[other] for target, other in zip(TARGETS, order, strict=True)
    }  # faces that show something else than is said
    shuffled = given_context(right, wrong, right.data, right.compared)
    for found in classifier_recall.measure(shuffled).classifiers.values():
        assert found.two_sided is not None
        assert found.two_sided.high < 0.5
        assert all(t.shift.high < 0 for t in found.targets.values())


def test_only_what_is_typical_of_a_class_is_exaggerated(
    context: Context, control: Context, whole: classifier_recall.ClassifierRecall
) -> None:
    classifier = context.classifier
    typical = {}
    for target, given in control.given.items():
        seen = classifier_recall.recognised_in(classifier, given.faces, target)
        sure = torch.from_numpy(seen)
        typical[target] = Synthetics(
            given.sources[sure], given.faces[sure], given.made[sure], ("",) * int(sure.sum())
        )
    picked = given_context(control, typical, control.data, control.compared)
    found = classifier_recall.measure(picked).classifiers[classifier.name]
    usual = whole.classifiers[classifier.name]
    assert found.mean is not None
    assert found.two_sided is not None
    assert usual.two_sided is not None
    assert found.mean.value > 1.2, "every one is recognised, which real faces are not"
    assert found.two_sided.value < usual.two_sided.value


def test_a_subset_of_the_sources_can_be_asked_for(context: Context) -> None:
    control = copies(context)
    sources = control.sources(Expression.HAPPY).indices
    some = control.synthetics(Expression.HAPPY, indices=sources[[3, 1]])
    assert torch.equal(some.sources, sources[[3, 1]])
    assert torch.equal(some.faces, context.data.faces[sources[[3, 1]]])
