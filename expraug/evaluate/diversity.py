"""Diversity and coverage: are the synthetics of a class as many-sided as real faces of it?

Both are read in two spaces: landmarks without the head's pose, and the classifier's features.

*Diversity* asks how much the change differs from person to person. Of a synthetic it is
synthetic − source, of real people the difference between photographs with both expressions; its
spread is the root mean square distance between the changes of two people. Photographs differ in
more than the expression, so what photographs of one person with the same expression differ by is
subtracted from the real spread. Where too few real people were photographed with both expressions,
the spread of their changes is, for landmarks, that of real faces of the class less that of real
faces like the sources, as what people's faces are and what they do adds up. Features do not add up
so: they need the pairs.

*Density* and *coverage* (Naeem et al. 2020, arXiv 2002.09797) ask how many synthetics lie among
real faces of the class, and near how many of these there is one. Both depend on the number of
faces, so both sides have equal numbers; and the other half of the real faces is measured as the
synthetics are, which says what can be reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Bootstrap, Estimate, ratio
from expraug.evaluate.context import MIN_REAL, Context
from expraug.evaluate.face_set import TooFewFacesError
from expraug.evaluate.landmarks import FACE, features, landmarks
from expraug.evaluate.pairs import changed, repeated, shown_by_sources
from expraug.evaluate.result import Headline, Line, Result, headline_with_mean
from expraug.expressions import Expression

NAME = "diversity and coverage"
NEIGHBOURS = 5
"""Of a real face, up to which another face counts as near it (Naeem et al.'s choice)."""
_ROUNDS = 200
_SPACES = ("landmarks", "features")


@dataclass(frozen=True)
class Coverage:
    """Density and coverage of real faces of a class, by synthetics and by other real ones.

    Args:
        density: mean number of real faces that a synthetic is near to, over `NEIGHBOURS`.
        coverage: share of the real faces that a synthetic is near to.
        real_density, real_coverage: the same of as many other real faces.
        faces: number on each side.
    """

    density: Estimate
    coverage: Estimate
    real_density: Estimate
    real_coverage: Estimate
    faces: int


@dataclass(frozen=True)
class TargetDiversity:
    """Diversity of one target expression.

    Args:
        spread: by space, of the synthetics' changes over that of real people's; 1 is as diverse as
            real. Not there where the latter spread no more than without the expression.
        compared: with what: "23 real pairs" of photographs, or "54 real faces".
        coverage: by space. Not there where there are fewer than 20 real faces.
        real_from: the set of the real faces of the class.
    """

    spread: dict[str, Estimate]
    compared: str
    coverage: dict[str, Coverage]
    real_from: str


@dataclass
class Diversity(Result):
    """Diversity by target.

    Args:
        targets: by target.
        data: name of the set.
    """

    targets: dict[str, TargetDiversity]
    data: str

    def headline(self) -> Headline:
        found: Headline = {}
        for space in _SPACES:
            spread = {t: d.spread[space] for t, d in self.targets.items() if space in d.spread}
            there = {t: d.coverage[space] for t, d in self.targets.items() if space in d.coverage}
            found |= headline_with_mean(f"diversity, {space}", spread)
            near = {t: c.coverage for t, c in there.items()}
            found |= headline_with_mean(f"coverage, {space}", near)
        return found

    def lines(self) -> list[Line]:
        lines = []
        for space in _SPACES:
            for target, t in self.targets.items():
                if (e := t.spread.get(space)) is not None:
                    beside = f"of changes; {t.compared}"
                    lines.append(Line(f"diversity, {space}", target, str(e), beside, str(e.n)))
        for word in ("coverage", "density"):
            for space in _SPACES:
                for target, t in self.targets.items():
                    if (c := t.coverage.get(space)) is None:
                        continue
                    own, real = getattr(c, word), getattr(c, f"real_{word}")
                    where = "" if t.real_from == self.data else f" {t.real_from}"
                    beside = f"real {real.value:.3f}{where}"
                    lines.append(Line(f"{word}, {space}", target, str(own), beside, str(c.faces)))
        return lines


def measure(context: Context) -> Diversity:
    """Measure every target of which there are at least 10 real faces or pairs."""
    found = context.by_target(NAME, lambda target: measure_target(context, target))
    return Diversity(found, context.data.name)


def measure_target(context: Context, target: Expression) -> TargetDiversity:
    """Measure one target.

    Raises:
        TooFewFacesError: fewer than 10 synthetics; or fewer than 10 real pairs of photographs, and
            fewer than 10 real faces of the class or like the sources.
    """
    data, made, real = context.data, context.synthetics(target), context.real(target)
    # of a control of real faces, some sources may show the target already
    kinds = shown_by_sources(context, target) or [Expression.NEUTRAL]
    moves = data.labels[made.made_of] != int(target)
    pairs, repeats = changed(context, kinds, target), repeated(context, kinds)
    sources, at = made.made_of, real.of(target)
    like = torch.cat([real.of(e) for e in kinds] or [at[:0]])
    enough_pairs = len(pairs) >= MIN_REAL
    if not enough_pairs and min(len(at), len(like)) < MIN_REAL:
        raise TooFewFacesError(
            f"fewer than {MIN_REAL}: {len(pairs)} real pairs of photographs, {len(at)} real faces, "
            f"{len(like)} real ones like the sources"
        )
    compared = f"{len(pairs)} real pairs" if enough_pairs else f"{len(at)} real faces"
    spread: dict[str, Estimate] = {}
    coverage: dict[str, Coverage] = {}
    for space in _SPACES:
        read = partial(_rows, context, space)
        people, (made_rows,) = read(data.who(sources), made.made_faces)
        if len(people) < MIN_REAL:
            raise TooFewFacesError(f"fewer than {MIN_REAL} synthetics: {len(people)}")
        moved = sources[moves]
        movers, (before, after) = read(data.who(moved), data.faces[moved], made.made_faces[moves])
        changes = after - before, movers
        class_people, (of_class,) = read(real.who(at), real.faces[at])
        if len(class_people) >= 2 * MIN_REAL:
            coverage[space] = covered(of_class, class_people, made_rows, people)
        if enough_pairs:
            real_people, (first, second) = read(pairs.people, *pairs.photographs)
            again, (one, other) = read(repeats.people, *repeats.photographs)
            beside = (second - first, real_people), (other - one, again)
        elif space == "landmarks":
            like_people, (like_sources,) = read(real.who(like), real.faces[like])
            beside = (of_class, class_people), (like_sources, like_people)
        else:
            continue
        if len(movers) < MIN_REAL:
            continue
        found = relative_spread(changes, *beside, context.bootstrap)
        if np.isfinite(found.value):
            spread[space] = found
        else:
            context.skipped[f"diversity, {space}, {target}"] = (
                f"{compared} differ no more than photographs without the expression"
            )
    return TargetDiversity(spread, compared, coverage, real.name)


Changes = tuple[np.ndarray, list[str]]
"""(N, D) differences between two faces each of N people, and these."""


def relative_spread(
    made: Changes, real: Changes, repeats: Changes, bootstrap: Bootstrap
) -> Estimate:
    """Return the spread of made changes over that of real ones, without that of repeats.

    Returns:
        nan where the real changes spread no more than the repeats.
    """
    above = mean_square_distance(*made, bootstrap)
    below = mean_square_distance(*real, bootstrap)
    if len(set(repeats[1])) > 1:
        below = below - mean_square_distance(*repeats, bootstrap)
    rounds = np.sqrt(ratio(above, np.where(below > 0, below, np.nan)))
    return Estimate.of(rounds, len(made[1]))


def mean_square_distance(rows: np.ndarray, people: list[str], bootstrap: Bootstrap) -> np.ndarray:
    """Return the mean square distance between rows of different people: (1 + rounds,).

    Args:
        rows: (N, D).
        people: the N people they belong to.
        bootstrap: over these.
    """
    square = (rows**2).sum(1)
    distance = square[:, None] + square - 2 * rows @ rows.T
    number = np.unique(people, return_inverse=True)[1]
    others = number[:, None] != number
    weights = bootstrap.weights(people)
    total, count = (((weights @ m) * weights).sum(1) for m in (distance * others, others * 1.0))
    return ratio(total, count)


def covered(
    real: np.ndarray, real_people: list[str], made: np.ndarray, people: list[str], seed: int = 0
) -> Coverage:
    """Return density and coverage of halves of real faces by made ones, and by the other halves.

    Halves are drawn anew in each round, by person; the figures are means over the rounds, and
    their intervals the rounds' quantiles, as of a delete-half jackknife (Shao & Wu 1989).

    Args:
        real: (N, D) rows of N real faces.
        real_people: the N people that they belong to.
        made: (M, D).
        people: the M people that they belong to.
        seed: of the halves.
    """
    rng = np.random.default_rng(seed)
    among = _distances(real, real)
    across = _distances(real, made)
    rounds = []
    most = len(real)
    for _ in range(_ROUNDS):
        one, other = _halves(real_people, rng)
        chosen, _ = _halves(people, rng)
        size = min(len(one), len(other), len(chosen))
        most = min(most, size)
        one, other, chosen = (rng.permutation(part)[:size] for part in (one, other, chosen))
        near = np.sort(among[np.ix_(one, one)], axis=1)[:, min(NEIGHBOURS, size - 1)]  # 0 is itself
        rounds.append(
            [*_near(across[np.ix_(one, chosen)], near), *_near(among[np.ix_(one, other)], near)]
        )
    columns = np.array(rounds).T
    a, b, c, d = (Estimate.of(np.concatenate([[c.mean()], c]), most) for c in columns)
    return Coverage(a, b, c, d, most)


def _near(distance: np.ndarray, radius: np.ndarray) -> tuple[float, float]:
    """Return density and coverage: (R, M) distances of R real faces, and their (R,) radii."""
    inside = distance < radius[:, None]
    return float(inside.sum(0).mean() / NEIGHBOURS), float(inside.any(1).mean())


def _halves(people: list[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the faces of one half of the people, and of the others."""
    number = np.unique(people, return_inverse=True)[1]
    count = int(number.max()) + 1
    first = rng.permutation(count) < count // 2
    return np.flatnonzero(first[number]), np.flatnonzero(~first[number])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(torch.cdist(torch.from_numpy(a), torch.from_numpy(b)).numpy())


def _rows(
    context: Context, space: str, people: list[str], *faces: Tensor
) -> tuple[list[str], list[np.ndarray]]:
    """Return (N, D) rows of photographs of N people, those that have them in every photograph."""
    if space == "features":
        return people, [features(context, part) for part in faces]
    found = landmarks(context, people, *faces)
    return found[0].people, [part.of(FACE) for part in found]
