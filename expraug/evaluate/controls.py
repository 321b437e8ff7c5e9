"""Controls: what the measures say where the truth is known.

A control context hands out faces that were made without a synthesizer, so that every measure that
looks at synthetics can be run on them: real faces of the class, the best there can be, and the
unchanged sources, which show nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
import xxhash
from torch import Tensor

from expraug.evaluate.context import Context, Sources, Synthetics
from expraug.evaluate.face_set import FaceSet
from expraug.expressions import Expression

MEASURABLE = (
    "classifier_recall",
    "motion",
    "detectability",
    "diversity",
    "gan_train",
    "frechet",
    "failures",
)
"""Measures that look at faces alone, so that they can be run on a control."""

_SECOND = 1000
"""From here on sets are counted that were joined to others."""


@dataclass
class ControlContext(Context):
    """A context whose synthetics are given.

    Args:
        given: by target.
        compared: the real faces that they are compared with; None takes those of the context.
    """

    given: Mapping[Expression, Synthetics] = field(default_factory=dict)
    compared: FaceSet | None = None

    def real(self, target: Expression) -> FaceSet:
        return super().real(target) if self.compared is None else self.compared

    def bystanders(self) -> FaceSet:
        return self.data if self.compared is None else self.compared

    def sources(self, target: Expression) -> Sources:
        if target not in self.given:
            return Sources(torch.empty(0, dtype=torch.long), "")
        indices = self.given[target].sources
        shown = sorted({int(label) for label in self.data.labels[indices]})
        return Sources(indices, ", ".join(str(Expression(label)) for label in shown))

    def other_sources(self, target: Expression) -> Sources:
        return Sources(torch.empty(0, dtype=torch.long), "")

    def synthetics(
        self,
        target: Expression,
        intensity: float = 1.0,
        indices: Tensor | None = None,
        *,
        first_variant: bool = False,
        keep: bool = True,
    ) -> Synthetics:
        """Return what is given for a target; at another intensity than 1, the sources."""
        given = self.given[target]
        if indices is not None and not torch.equal(indices, given.sources):
            places = {int(source): i for i, source in enumerate(given.sources)}
            at = torch.tensor([places[int(i)] for i in indices])
            reasons = tuple(given.reasons[int(i)] for i in at)
            given = Synthetics(given.sources[at], given.faces[at], given.made[at], reasons)
        if intensity == 1:
            return given
        return Synthetics(given.sources, self.data.faces[given.sources], given.made, given.reasons)


def given_context(
    context: Context,
    given: Mapping[Expression, Synthetics],
    data: FaceSet | None = None,
    compared: FaceSet | None = None,
) -> ControlContext:
    """Return a context that hands out given synthetics.

    Args:
        context: gives all else.
        given: by target, indices of sources in `data`.
        data: instead of the context's.
        compared: the real faces to compare with, instead of those of the context.
    """
    same = {f.name: getattr(context, f.name) for f in fields(Context) if f.init}
    same |= {
        "distributions": [],
        "refused": {},
        "skipped": {},
        "stopped": False,
        "total": 0,
        "_done": 0,
        "_known": {},
    }
    same["intensities"] = (0.0, 1.0)  # there is nothing between
    same |= {"data": data or context.data, "targets": tuple(given)}
    return ControlContext(**same, given=given, compared=compared)


def copies(context: Context) -> ControlContext:
    """Return a control whose synthetics are the unchanged sources: nothing is expressed."""
    given: dict[Expression, Synthetics] = {}
    for target in context.targets:
        indices = context.sources(target).indices
        given[target] = _all_made(indices, context.data.faces[indices])
    return given_context(context, given)


def real_faces(context: Context) -> ControlContext:
    """Return a control whose synthetics are real faces, compared with those of other people.

    The people are halved by the hash of their names; half of the real faces stand in for
    synthetics. Their source is the first neutral photograph of the same person if there is one,
    else the face itself.
    """
    everyone = joined(context.data, context.reference)
    lent = torch.tensor([xxhash.xxh32_intdigest(p.encode()) % 2 == 1 for p in everyone.people])
    lending, compared = taken(everyone, lent), taken(everyone, ~lent)
    neutral = {
        lending.people[i]: i for i in reversed(lending.of(Expression.NEUTRAL).tolist())
    }  # the first of each person
    given: dict[Expression, Synthetics] = {}
    for target in context.targets:
        if target == Expression.NEUTRAL:
            continue  # a neutral photograph would be its own source
        shown = lending.of(target)
        if len(shown) and len(compared.of(target)):
            sources = [neutral.get(lending.people[i], i) for i in shown.tolist()]
            given[target] = _all_made(torch.tensor(sources), lending.faces[shown])
    return given_context(context, given, lending, compared)


def _all_made(sources: Tensor, faces: Tensor) -> Synthetics:
    every = torch.ones(len(sources), dtype=torch.bool)
    return Synthetics(sources, faces, every, ("",) * len(sources))


def joined(first: FaceSet, second: FaceSet | None) -> FaceSet:
    """Return the faces of two sets as one."""
    if second is None:
        return first
    return FaceSet(
        f"{first.name}, {second.name}",
        torch.cat([first.faces, second.faces]),
        torch.cat([first.labels, second.labels]),
        first.people + second.people,
        first.items + second.items,
        first.lost + second.lost,
        first.named or second.named,
        first.yaw + second.yaw,
        first.side + second.side,
        (first.sets or [0] * len(first)) + [_SECOND + i for i in second.sets or [0] * len(second)],
    )


def taken(faces: FaceSet, keep: Tensor) -> FaceSet:
    """Return some faces of a set.

    Args:
        keep: (N,) bool.
    """
    at = keep.nonzero().flatten().tolist()
    return FaceSet(
        faces.name,
        faces.faces[keep],
        faces.labels[keep],
        [faces.people[i] for i in at],
        [faces.items[i] for i in at],
        faces.lost,
        faces.named,
        [faces.yaw[i] for i in at] if faces.yaw else [],
        [faces.side[i] for i in at] if faces.side else [],
        [faces.sets[i] for i in at] if faces.sets else [],
    )
