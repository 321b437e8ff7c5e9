"""Photographs of one person, before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from expraug import Expression
from expraug.evaluate import Context
from expraug.evaluate.face_set import FaceSet
from expraug.evaluate.pairs import changed, repeated, shown_by_sources

NEUTRAL, HAPPY, SAD = Expression.NEUTRAL, Expression.HAPPY, Expression.SAD


@pytest.fixture
def context(crops: Callable, in_context: Callable, brighten: type) -> Callable[..., Context]:
    def build(data: Sequence[tuple[str, Expression]], reference: Sequence = ()) -> Context:
        return in_context(photographs(data), brighten(), reference=photographs(reference))

    def photographs(given: Sequence[tuple[str, Expression]]) -> FaceSet | None:
        image = np.full((32, 32, 3), 60, np.uint8)
        people, labels = [p for p, _ in given], [e for _, e in given]
        return crops([image] * len(given), labels, people) if given else None

    return build


def test_the_first_photograph_is_paired_with_every_other(context: Callable) -> None:
    data = [("a", HAPPY), ("a", NEUTRAL), ("b", HAPPY), ("a", NEUTRAL), ("a", HAPPY), ("c", SAD)]
    found = changed(context(data), [NEUTRAL, SAD], HAPPY)
    assert (found.before, found.after, found.people) == ([1, 1], [0, 4], ["a", "a"])
    assert [len(part) for part in found.photographs] == [2, 2]
    again = repeated(context(data), [NEUTRAL, HAPPY])
    assert (again.before, again.after) == ([1, 0], [3, 4])


def test_the_reference_helps_out_where_it_has_more(context: Callable) -> None:
    few = [("a", NEUTRAL), ("a", HAPPY)]
    more = [*few, ("b", NEUTRAL), ("b", HAPPY)]
    with_more = context(few, more)
    assert changed(with_more, [NEUTRAL], HAPPY).faces is with_more.reference
    with_less = context(more, few)
    assert changed(with_less, [NEUTRAL], HAPPY).faces is with_less.data
    enough = [(f"p{i}", e) for i in range(10) for e in (NEUTRAL, HAPPY)]
    with_enough = context(enough, enough + more)
    assert len(changed(with_enough, [NEUTRAL], HAPPY)) == 10


def test_what_the_sources_show(context: Callable) -> None:
    assert shown_by_sources(context([("a", NEUTRAL), ("b", SAD)]), HAPPY) == [NEUTRAL]
    assert shown_by_sources(context([("a", HAPPY), ("b", SAD)]), HAPPY) == [SAD]
