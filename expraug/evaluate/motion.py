"""Naturalness of motion: do landmarks move as far, and the way, they do in real faces?

Three comparisons, per facial region and over the face, each of synthetics with the range of real
values between their 5th and 95th percentiles. Of natural synthetics 5 % lie below (not expressed)
and 5 % above (exaggerated).

- *against the class*: how far the shape has gone towards the class, along Fisher's discriminant
  between real faces of the class and real faces like the sources; 0 is the mean of the latter and 1
  that of the class. A norm alone does not know which way a face moves.
- *against a person's own change*: by how much that value changes from the source, against real
  people photographed with both expressions.
- *size of the change*: how far the landmarks are displaced from the source, root mean square,
  against the same people. It also knows what moves, but not towards the class.

Two photographs of one person differ in more than the expression, and a synthetic differs from its
source in nothing else. So what differs between real people's photographs of one and the same
expression is added to the change of a synthetic: each such difference in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xxhash
from torch import Tensor

from expraug.evaluate.context import MIN_REAL, Context
from expraug.evaluate.distribution import Distribution
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.frechet import shrunk_covariance
from expraug.evaluate.landmarks import FACE, REGIONS, Landmarks, landmarks
from expraug.evaluate.pairs import PhotographPairs, changed, repeated, shown_by_sources
from expraug.evaluate.ranges import Outside, outside
from expraug.evaluate.result import Headline, Line, Result, headline_with_mean
from expraug.expressions import Expression

NAME = "naturalness of motion"
_GROUPS = 5


@dataclass(frozen=True)
class RegionMotion:
    """How the landmarks of a region move.

    Args:
        toward_class: how far towards the class the synthetics are; 0 as the sources, 1 as the
            class, both in the mean of real faces.
        copied: the same of the unchanged sources: most of them should be below. None where fewer
            than 10 sources show something else.
        own_change: by how much that differs from the source; None where too few real people were
            photographed with both expressions.
        size: of the displacement from the source, root mean square over the landmarks, as a
            fraction of the aligned face's side; None as above.
    """

    toward_class: Outside
    copied: Outside | None
    own_change: Outside | None
    size: Outside | None


@dataclass(frozen=True)
class TargetMotion:
    """Motion towards one target expression.

    Args:
        sources: what the source faces show.
        regions: by region, `FACE` first.
        real_from: the set of the real faces of the class.
        pairs, pairs_from: number of real pairs of photographs with both expressions, and their set.
        repeats: number of real pairs with one expression, whose differences are added.
        lost: synthetics in which no landmarks were found; they count as nowhere.
    """

    sources: str
    regions: dict[str, RegionMotion]
    real_from: str
    pairs: int
    pairs_from: str
    repeats: int
    lost: int


@dataclass
class Motion(Result):
    """Motion by target.

    Args:
        targets: by target.
        data: name of the set.
    """

    targets: dict[str, TargetMotion]
    data: str

    def headline(self) -> Headline:
        found: Headline = {}
        for name, side in (("not expressed", "below"), ("exaggerated", "above")):
            of = {t: getattr(m.regions[FACE].toward_class, side) for t, m in self.targets.items()}
            found |= headline_with_mean(f"motion {name}", of)
        return found

    def lines(self) -> list[Line]:
        lines = []
        for title, kind, side in (
            ("motion: not expressed", "toward_class", "below"),
            ("motion: exaggerated", "toward_class", "above"),
            ("own change: not expressed", "own_change", "below"),
            ("own change: exaggerated", "own_change", "above"),
            ("size of change: too small", "size", "below"),
            ("size of change: too large", "size", "above"),
        ):
            for target, t in self.targets.items():
                found: dict[str, Outside | None] = {
                    region: getattr(r, kind) for region, r in t.regions.items()
                }
                whole = found.pop(FACE)
                if whole is None:
                    continue
                parts = [f"{r} {getattr(o, side).value:.2f}" for r, o in found.items() if o]
                beside = ", ".join(parts)
                if kind == "toward_class":
                    where = "" if t.real_from == self.data else f" {t.real_from}"
                    if (copied := t.regions[FACE].copied) is not None:
                        beside += f"; copying {getattr(copied, side).value:.2f}"
                    beside += f"; {whole.real} real{where}"
                else:
                    beside += f"; {t.pairs} real pairs"
                share = getattr(whole, side)
                lines.append(Line(title, target, str(share), beside, str(share.n)))
        return lines

    def caption(self) -> str:
        return "motion: 0.05 beyond either bound is natural" if self.targets else ""


def measure(context: Context) -> Motion:
    """Measure every target of which there are at least 10 real faces."""
    found = context.by_target(NAME, lambda target: measure_target(context, target))
    return Motion(found, context.data.name)


def measure_target(context: Context, target: Expression) -> TargetMotion:
    """Measure one target.

    Raises:
        TooFewFacesError: fewer than 10 synthetics, real faces of the class, or real faces that
            show what the sources show; or the landmarks of the latter two do not differ.
    """
    data, real, made = context.data, context.real(target), context.synthetics(target)
    # of a control of real faces, some sources may show the target already
    kinds = shown_by_sources(context, target) or [Expression.NEUTRAL]
    moves = data.labels[made.made_of] != int(target)
    shown = {e: _of(context, real, real.of(e)) for e in Expression}
    goal = shown[target]
    start = _of(context, real, torch.cat([real.of(e) for e in kinds]))
    sources = data.faces[made.made_of]
    (everyone,) = landmarks(context, data.who(made.made_of), made.made_faces)
    people = data.who(made.made_of[moves])
    before, after = landmarks(context, people, sources[moves], made.made_faces[moves])
    if min(map(len, (start, goal, everyone))) < MIN_REAL:
        raise TooFewFacesError(
            f"fewer than {MIN_REAL} faces with landmarks: {len(goal)} real, {len(start)} real "
            f"that show {', '.join(map(str, kinds))}, {len(everyone)} synthetic"
        )
    pairs = changed(context, kinds, target)
    first, second = _of_pairs(context, pairs)
    once, again = _of_pairs(context, repeated(context, kinds))
    compare = partial(outside, bootstrap=context.bootstrap)

    def of(region: str) -> RegionMotion:
        scale = ClassScale(start, goal, region, tuple(shown.values()))
        real_places, zero, copies = scale(goal), 0.0, None
        enough = len(before) >= MIN_REAL
        if enough:
            copied = scale(before)
            zero = float(copied.mean())  # the sources may be of another set than the real faces
            copies = compare(copied - zero, before.people, real_places, goal.people)
        places = scale(everyone) - zero
        if region == FACE:
            told = Distribution("motion towards the class", target, places, real_places)
            context.distributions.append(told)
        toward = compare(places, everyone.people, real_places, goal.people)
        if len(first) < MIN_REAL or not enough:
            return RegionMotion(toward, copies, None, None)
        noise = _both_ways(scale(again) - scale(once))
        step = compare(
            (scale(after) - copied)[:, None] + noise,
            after.people,
            scale(second) - scale(first),
            first.people,
        )
        moved = after.of(region) - before.of(region)
        other = _both_ways(again.of(region) - once.of(region))
        size = compare(
            root_mean_square(moved, other),
            after.people,
            root_mean_square(second.of(region) - first.of(region))[:, 0],
            first.people,
        )
        return RegionMotion(toward, copies, step, size)

    return TargetMotion(
        sources=", ".join(map(str, kinds)),
        regions={region: of(region) for region in (FACE, *REGIONS)},
        real_from=real.name,
        pairs=len(first),
        pairs_from=pairs.faces.name,
        repeats=len(once),
        lost=len(made.made_of) - len(everyone),
    )


class ClassScale:
    """How far the landmarks of a region have gone towards a class: 0 as at the start, 1 as there.

    It is Fisher's linear discriminant between real faces at the start and at the goal. How faces
    vary otherwise is read from real faces of every class, as one class alone may have few. Nobody
    is measured by a discriminant that knows their own photographs: people are put into five groups,
    and each is measured by what the other four show. 0 and 1 are the means of what is measured so.

    Args:
        start: of real faces.
        goal: of real faces of the class.
        region: of the face.
        classes: of real faces of every class there is; none takes start and goal.

    Raises:
        TooFewFacesError: the landmarks of start and goal do not differ, or they are of too few
            people.
    """

    def __init__(
        self,
        start: Landmarks,
        goal: Landmarks,
        region: str,
        classes: Sequence[Landmarks] = (),
    ) -> None:
        self._region = region
        width = start.of(region).shape[1]
        self._weights = np.zeros((_GROUPS, width))
        self._zero, self._unit = np.zeros(_GROUPS), 1.0
        for group in range(_GROUPS):
            a, b, *others = (
                faces.of(region)[groups(faces.people) != group]
                for faces in (start, goal, *(classes or (start, goal)))
            )
            if not (len(a) and len(b)):
                raise TooFewFacesError("the real faces are of too few people")
            step = b.mean(0) - a.mean(0)
            around = np.concatenate([rows - rows.mean(0) for rows in others if len(rows) > 1])
            weights = np.linalg.solve(shrunk_covariance(around), step)
            weights /= weights @ step
            self._weights[group], self._zero[group] = weights, weights @ a.mean(0)
        zero, unit = self(start).mean(), self(goal).mean()
        if unit <= zero:
            raise TooFewFacesError(
                f"the landmarks of {len(goal)} real faces of the class do not differ from those "
                f"of {len(start)} others"
            )
        self._zero, self._unit = self._zero + zero, unit - zero

    def __call__(self, faces: Landmarks) -> np.ndarray:
        """Return where (N,) faces are."""
        group = groups(faces.people)
        along = (faces.of(self._region) * self._weights[group]).sum(1)
        return np.asarray((along - self._zero[group]) / self._unit)


def groups(people: list[str]) -> np.ndarray:
    """Return the group, of five, of each of N people: (N,) int, by a hash of the name."""
    return np.array([xxhash.xxh32_intdigest(p.encode()) % _GROUPS for p in people], int)


def root_mean_square(moved: np.ndarray, added: np.ndarray | None = None) -> np.ndarray:
    """Return the size of displacements, with every one of others added in turn.

    Args:
        moved: (N, 2 K), of K landmarks of N faces.
        added: (J, 2 K); None adds nothing.

    Returns:
        (N, J), or (N, 1): root mean square over landmarks.
    """
    added = np.zeros((1, moved.shape[1])) if added is None else added
    square = (moved**2).sum(1)[:, None] + (added**2).sum(1) + 2 * moved @ added.T
    return np.asarray(np.sqrt(square.clip(min=0) / (moved.shape[1] / 2)))


def _both_ways(differences: np.ndarray) -> np.ndarray:
    """Return differences and their opposites: which photograph came first means nothing."""
    if not len(differences):
        return np.zeros((1, *differences.shape[1:]))
    return np.concatenate([differences, -differences])


def _of(context: Context, faces: FaceSet, indices: Tensor) -> Landmarks:
    return landmarks(context, faces.who(indices), faces.faces[indices])[0]


def _of_pairs(context: Context, pairs: PhotographPairs) -> tuple[Landmarks, Landmarks]:
    before, after = landmarks(context, pairs.people, *pairs.photographs)
    return before, after
