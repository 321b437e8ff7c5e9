from __future__ import annotations

from typing import Any

import pytest

from expraug.datasets.source import FaceItem, Listed
from expraug.errors import LabelError, UnsupportedExpressionError
from expraug.expand import Plan
from expraug.expand.classes import class_expressions
from expraug.expressions import Expression
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


@pytest.fixture(scope="module")
def augmenter(smile: str) -> ExpressionAugmenter:
    return ExpressionAugmenter(smile)


def item(class_name: str, stem: str = "ann") -> FaceItem:
    return FaceItem(stem, class_name, f"{class_name}/{stem}.png", b"")


def test_jobs(augmenter: ExpressionAugmenter) -> None:
    plan = Plan.create(
        augmenter, ["Happiness", "bored", "neutral", "sad"], intensity=[1.0, 0.5, 0.5]
    )
    assert plan.job(item("neutral")).requests == (
        SynthesisRequest(HAPPY, 0.5),
        SynthesisRequest(HAPPY, 1),
    )
    assert plan.job(item("Happiness")).requests == (
        SynthesisRequest(NEUTRAL, 0.5),
        SynthesisRequest(NEUTRAL, 1),
    )
    assert plan.folders == {NEUTRAL: "neutral", HAPPY: "Happiness"}
    reasons = {name: plan.job(item(name)).reason for name in ("bored", "sad", "missing")}
    assert reasons == {
        "bored": "no_expression",
        "sad": "unsupported_expression",
        "missing": "label_outside_scheme",
    }


def test_targets(augmenter: ExpressionAugmenter) -> None:
    plan = Plan.create(augmenter, ["happy", "neutral"], targets=["joy"])
    assert plan.job(item("neutral")).requests == (SynthesisRequest(HAPPY),)
    assert plan.job(item("happy")).reason == "already_target"
    with pytest.raises(UnsupportedExpressionError, match="cannot make sad"):
        Plan.create(augmenter, ["happy"], targets=["happy", "sad"])
    with pytest.raises(UnsupportedExpressionError, match="1 to 1 variants"):
        Plan.create(augmenter, ["happy"], variants=2)


@pytest.mark.parametrize("intensity", [0.0, 1.01, [], [0.5, 2.0], float("nan")])
def test_intensity_out_of_range(augmenter: ExpressionAugmenter, intensity: Any) -> None:
    with pytest.raises(ValueError, match="intensity"):
        Plan.create(augmenter, ["happy"], intensity=intensity)


def test_seed_picks_variants() -> None:
    plans = [
        Plan({"neutral": NEUTRAL}, {NEUTRAL: (HAPPY,)}, {HAPPY: "happy"}, (100,), 2, 9, seed)
        for seed in (0, 0, 1)
    ]
    stems = [f"p{i}" for i in range(20)]
    variants = [
        [[d.variant for d in p.job(item("neutral", s)).requests] for s in stems] for p in plans
    ]
    assert variants[0] == variants[1] != variants[2]
    assert all(len(set(v)) == 2 and max(v) < 9 for v in variants[0])
    assert len({tuple(v) for v in variants[0]}) > 5


def test_class_names() -> None:
    assert class_expressions(["joy", "xyz"]) == {"joy": HAPPY, "xyz": None}
    assert class_expressions(["3", "6"], "fer2013") == {"3": HAPPY, "6": NEUTRAL}
    from_one = [str(i) for i in range(1, 8)]
    assert class_expressions(from_one, "raf-db")["7"] == NEUTRAL
    assert class_expressions(["a", "b", "c"], "a=happy,b=none") == {
        "a": HAPPY,
        "b": None,
        "c": None,
    }
    assert class_expressions(["0", "1"], {"1": "happy"}) == {"0": None, "1": HAPPY}


def test_class_names_that_cannot_be_mapped() -> None:
    with pytest.raises(LabelError, match=r"'0', '1' means an expression. Say what .*--scheme"):
        class_expressions(["0", "1"])
    with pytest.raises(LabelError, match="both mean happy"):
        class_expressions(["joy", "smile"])
    with pytest.raises(LabelError, match="fer2013"):
        class_expressions(["0", "1"], "nonsense")
    with pytest.raises(LabelError, match=r"the scheme names 'hapy', and .* are 'happy', 'sad'"):
        class_expressions(["happy", "sad"], "hapy=happy,sad=sad")


def test_without_targets_only_classes_of_the_source_set() -> None:
    augmenter = ExpressionAugmenter("pixel")
    classes = ["sad", "bored", "neutral"]
    plan = Plan.create(augmenter, classes)
    assert list(plan.folders.values()) == ["neutral", "sad"]
    assert (plan.classes, plan.source_classes) == (classes, 3)
    plan = Plan.create(augmenter, classes, targets=["contempt", "sad"])
    assert plan.classes == [*classes, "contempt"]


def test_clashing_stems_are_told_apart(augmenter: ExpressionAugmenter) -> None:
    listing = [
        Listed("neutral", "neutral/ann.png", "ann"),
        Listed("happy", "happy/ann.png", "ann"),  # becomes neutral: clashes with no one
        Listed("neutral", "neutral/deep/ann.jpg", "ann"),
        Listed("neutral", "neutral/bob.png", "bob"),
    ]
    plan = Plan.create(augmenter, ["happy", "neutral"], listing=listing)
    assert set(plan.renamed) == {"neutral/ann.png", "neutral/deep/ann.jpg"}
    assert len(set(plan.renamed.values())) == 2
    assert plan.job(item("happy")).item.stem == "ann"
    assert plan.job(item("neutral")).item.stem.startswith("ann-")
