"""Two photographs of one person: what changes with the expression, and what changes without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from expraug.evaluate.context import MIN_REAL, Context
from expraug.evaluate.face_set import FaceSet
from expraug.expressions import Expression


@dataclass(frozen=True)
class PhotographPairs:
    """P pairs of photographs, each of one person.

    Args:
        faces: the set that they are in.
        before, after: P indices each.
    """

    faces: FaceSet
    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before)

    @property
    def photographs(self) -> tuple[Tensor, Tensor]:
        """The first and the second ones, (P, 3, S, S) uint8 each, aligned."""
        return self.faces.faces[self.before], self.faces.faces[self.after]

    @property
    def people(self) -> list[str]:
        """The P people."""
        return [self.faces.people[i] for i in self.before]


def shown_by_sources(context: Context, target: Expression) -> list[Expression]:
    """Return what the sources of a target show, the target itself left out."""
    shown = context.sources(target).shown.split(", ")
    return [e for e in Expression if str(e) in shown and e is not target]


def changed(context: Context, shown: Sequence[Expression], target: Expression) -> PhotographPairs:
    """Return pairs in which the expression becomes the target.

    Args:
        context: whose data is asked first; the reference, where the data has fewer than 10 pairs
            and it has more.
        shown: what the first photograph may show.
        target: what the second one shows.
    """
    return _larger(context, [(expression, target) for expression in shown])


def repeated(context: Context, shown: Sequence[Expression]) -> PhotographPairs:
    """Return pairs in which the expression stays what it is; arguments as those of `changed`."""
    return _larger(context, [(expression, expression) for expression in shown])


def _larger(
    context: Context, expressions: Sequence[tuple[Expression, Expression]]
) -> PhotographPairs:
    own = _pairs(context.data, expressions)
    if len(own) >= MIN_REAL or context.reference is None:
        return own
    return max(own, _pairs(context.reference, expressions), key=len)


def _pairs(faces: FaceSet, expressions: Sequence[tuple[Expression, Expression]]) -> PhotographPairs:
    """Return, of each person, the first photograph and every other with the second expression."""
    pairs: list[tuple[int, int]] = []
    for start, end in expressions:
        first: dict[str, int] = {}
        for i in faces.of(start).tolist():
            first.setdefault(faces.people[i], i)
        for i in faces.of(end).tolist():
            before = first.get(faces.people[i], i)
            if before != i:
                pairs.append((before, i))
    return PhotographPairs(faces, [a for a, _ in pairs], [b for _, b in pairs])
