"""How well expressions are read from landmarks and lent to others: the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from expraug.evaluate.landmarks import REGIONS
from expraug.expressions import Expression
from expraug.networks.face_mesh import load_face_landmarker
from expraug.networks.landmark_classifier import LandmarkClassifier, load_landmark_classifier
from recipes.transfer.expression_readings import (
    LandmarkSet,
    Model,
    deviations,
    lay_over,
    levelled,
)
from recipes.transfer.mesh import LOWER_IN, UPPER_IN

CLASSES = (Expression.HAPPY, Expression.SURPRISE, Expression.ANGRY, Expression.SAD)
"""Of which LFW has enough people."""
PIXELS = 256.0
MESH = 468
YAWS = ((0, 8), (8, 16), (16, 90))
APART = ((0, 10), (10, 20), (20, 180))
"""Degrees of yaw between source and exemplar."""
COMPONENTS = 40
PAIRS = 250
OTHERS = 9
"""London's people whose smiles each person is lent, and one."""
SHUT, OPENED = 1.0, 2.0
"""Gaps between the inner lips, in pixels of 256, that are shut and that are seen as open."""
CORNERS = (61, 291)
SMILE_WIDTH = 0.03
"""Canonical units over which a composed one-sided smile fades out across the middle of the face."""
ROUNDING = 2

Read = Callable[[LandmarkSet], Tensor]
Move = Callable[[LandmarkSet, LandmarkSet, Tensor], Tensor]


@dataclass(frozen=True)
class Held:
    """What readings are measured on.

    Args:
        base: from `start`; its frame is that of all figures.
        faces: of people with several photographs, and london: neutral and smiling photographs of
            one person each; none of them was learned from.
        learned: training faces, which say where the faces of an expression lie.
    """

    base: Model
    faces: LandmarkSet
    london: LandmarkSet
    learned: LandmarkSet

    def lain(self, faces: LandmarkSet) -> Tensor:
        return lay_over(faces.landmarks, self.base["points"])

    @cached_property
    def true(self) -> tuple[LandmarkSet, Tensor]:
        """The faces with another, neutral photograph, and their deviations, (N, 468, 2)."""
        faces = self.faces
        rows, away = deviations(levelled(self.base, faces.landmarks, faces.pose), faces)
        return faces.take(rows), away.unflatten(1, (-1, 2))[:, :MESH]

    @cached_property
    def pairs(self) -> tuple[LandmarkSet, LandmarkSet]:
        """London's people, neutral and smiling."""
        where: dict[int, dict[int, int]] = {}
        for i, (who, what) in enumerate(
            zip(self.london.person, self.london.expression, strict=True)
        ):
            where.setdefault(int(who), {})[int(what)] = i
        both = torch.tensor([[w[0], w[1]] for w in where.values() if len(w) == 2])
        return self.london.take(both[:, 0]), self.london.take(both[:, 1])

    @cached_property
    def landmark_nets(self) -> tuple[LandmarkClassifier, Callable[[Tensor], Tensor]]:
        """The landmark classifier, and what reads blendshape scores off landmarks."""
        return load_landmark_classifier(), load_face_landmarker().blendshapes

    @cached_property
    def spread(self) -> tuple[dict[Expression, Tensor], Tensor]:
        """The mean of each expression, (40,), and what whitens the differences within them."""
        z = self.components(levelled(self.base, self.learned.landmarks, self.learned.pose))
        label = self.learned.expression
        means = {e: z[label == int(e)].mean(0) for e in Expression if (label == int(e)).any()}
        within = torch.cat([z[label == int(e)] - m for e, m in means.items()])
        value, axes = torch.linalg.eigh(within.T @ within / len(within))
        return means, axes / value.sqrt()

    def components(self, level: Tensor) -> Tensor:
        """Return the (N, 40) principal components of levelled landmarks, (N, 956)."""
        axes = self.base["axes"][:, :COMPONENTS]
        return (level - self.base["rest"]) @ axes / self.base["scale"][:COMPONENTS]

    def distance(self, level: Tensor, expression: Expression) -> float:
        """Return the mean squared Mahalanobis distance to real faces of an expression."""
        means, white = self.spread
        z = (self.components(level) - means[expression]) @ white
        return float(z.square().mean())

    def probability(self, lain: Tensor, expression: Expression) -> float:
        """Return the landmark classifier's mean probability of an expression."""
        classifier, blendshapes = self.landmark_nets
        points = lain.float()
        found = classifier.logits(points, blendshapes(points)).softmax(1)
        return float(found[:, classifier.expressions.index(expression)].mean())


def explained(true: Tensor, found: Tensor) -> float:
    """Return the share of squared deviations that is explained; 0 is what no reading gets."""
    return float(1 - (true - found).square().sum() / true.square().sum())


def slope(true: Tensor, found: Tensor) -> float:
    """Return how much of a true difference is found: 1 is all of it."""
    return float((true * found).sum() / true.square().sum())


def pixels(true: Tensor, found: Tensor) -> float:
    """Return the mean distance of (N, 468, 2) landmarks, in pixels of 256."""
    return float((true - found)[:, :MESH].norm(dim=2).mean()) * PIXELS


def gap(lain: Tensor) -> Tensor:
    """Return how far the inner lips are apart, (N,) in pixels of 256."""
    upper, lower = list(UPPER_IN)[3:-3], list(LOWER_IN)[3:-3]
    return (lain[:, lower, 1] - lain[:, upper, 1]).mean(1) * PIXELS


def one_sided(moved: Tensor) -> Tensor:
    """Return by how much more the mouth's left corner rises than the right one, (N,)."""
    return moved[:, CORNERS[1], 1] - moved[:, CORNERS[0], 1]


def own(read: Read, held: Held) -> dict[str, float]:
    """Return the explained share of true deviations, by expression, region and yaw."""
    faces, true = held.true
    found = read(faces)[:, :MESH]
    expressive = (faces.expression[:, None] == torch.tensor([int(c) for c in CLASSES])).any(1)
    told = {}
    for expression in CLASSES:
        there = faces.expression == int(expression)
        told[f"R² {expression}"] = explained(true[there], found[there])
    told["R² mean"] = sum(told.values()) / len(told)
    rare = expressive & (faces.expression != int(Expression.HAPPY))
    for region in ("mouth", "eyes", "brows", "nose"):
        some = list(REGIONS[region])
        told[f"R² {region}"] = explained(true[expressive][:, some], found[expressive][:, some])
        told[f"R² {region}, rare"] = explained(true[rare][:, some], found[rare][:, some])
    for low, high in YAWS:
        yaw = faces.pose[:, 0].abs()
        there = expressive & (yaw >= low) & (yaw < high)
        told[f"R² yaw {low} to {high}°"] = explained(true[there], found[there])
    resting = faces.expression == int(Expression.NEUTRAL)
    told["moves neutral, px"] = pixels(torch.zeros_like(true[resting]), found[resting])
    told["corner drop kept, sad and angry"] = slope(
        *(
            drop(part[rare & (faces.expression != int(Expression.SURPRISE))])
            for part in (true, found)
        )
    )
    shut = expressive & (gap(held.lain(faces)).abs() < OPENED)
    told["R² mouth, closed lips"] = explained(
        *(part[shut][:, list(REGIONS["mouth"])] for part in (true, found))
    )
    there = expressive & (faces.pose[:, 0].abs() < YAWS[0][1])
    told["asymmetry kept"] = slope(one_sided(true[there]), one_sided(found[there]))
    return told


def drop(moved: Tensor) -> Tensor:
    """Return by how much the corners of the mouth sink against the middle of the lips, (N,)."""
    middle = moved[:, [13, 14], 1].mean(1)
    return moved[:, list(CORNERS), 1].mean(1) - middle


def smiles(read: Read, move: Move, held: Held) -> dict[str, float]:
    """Return errors of London's smiles, made from the neutral photograph, and what of a smile that
    one side of the face shows alone is read."""
    neutral, happy = held.pairs
    rest, goal = held.lain(neutral), held.lain(happy)
    told = {"own smile, px": pixels(goal, move(neutral, happy, rest))}
    people = torch.arange(len(rest))
    other = torch.stack([people.roll(k) for k in range(1, min(len(rest), OTHERS))])
    mine = people.expand_as(other).flatten()
    other = other.flatten()
    made = move(neutral.take(mine), happy.take(other), rest[mine])
    told["another's smile, px"] = pixels(goal[mine], made)
    side = torch.sigmoid((0.5 - rest[..., :1]) / SMILE_WIDTH)
    half = rest + side * (goal - rest)
    scores = held.landmark_nets[1](half.float()).double()
    seen = LandmarkSet(half, scores, neutral.pose, happy.expression, neutral.person)
    calm_scores = held.landmark_nets[1](rest.float()).double()
    calm = LandmarkSet(rest, calm_scores, neutral.pose, neutral.expression, neutral.person)
    found = read(seen) - read(calm)
    told["one-sided smile kept"] = slope(one_sided(half - rest), one_sided(found))
    told["one-sided smile, R² mouth"] = explained(
        *(part[:, list(REGIONS["mouth"])] for part in (half - rest, found))
    )
    return told


def chosen_pairs(held: Held, expression: Expression) -> tuple[LandmarkSet, LandmarkSet]:
    """Return neutral sources and exemplars of an expression, of different people."""
    faces = held.faces
    generator = torch.Generator().manual_seed(int(expression))
    sources = (faces.expression == int(Expression.NEUTRAL)).nonzero()[:, 0]
    exemplars = (faces.expression == int(expression)).nonzero()[:, 0]
    first = sources[torch.randint(len(sources), (PAIRS,), generator=generator)]
    second = exemplars[torch.randint(len(exemplars), (PAIRS,), generator=generator)]
    apart = faces.person[first] != faces.person[second]
    return faces.take(first[apart]), faces.take(second[apart])


def lent(move: Move, held: Held) -> dict[str, float]:
    """Return how near neutral faces with lent expressions come to real ones.

    Mahalanobis distances are relative to those of real faces of other people: 1 is as near.
    """
    told: dict[str, float] = {}
    far: dict[str, list[float]] = {}
    wrong, opened = [], []
    for expression in CLASSES:
        sources, exemplars = chosen_pairs(held, expression)
        lain = held.lain(sources)
        made = move(sources, exemplars, lain)
        real = held.faces.take(held.faces.expression == int(expression))
        usual = held.distance(levelled(held.base, real.landmarks, real.pose), expression)
        level = levelled(held.base, made, sources.pose)
        told[f"distance {expression}"] = held.distance(level, expression) / usual
        of_real = held.probability(held.lain(real), expression)
        told[f"p {expression}, of real"] = held.probability(made, expression) / of_real
        turned = (sources.pose[:, 0] - exemplars.pose[:, 0]).abs()
        for low, high in APART:
            there = (turned >= low) & (turned < high)
            far.setdefault(f"distance, {low} to {high}° apart", []).append(
                held.distance(level[there], expression) / usual
            )
        of_exemplar, before = gap(held.lain(exemplars)), gap(lain)
        wrong.append((gap(made) - of_exemplar)[before < SHUT].abs())
        opened.append((gap(made) > OPENED)[(before < SHUT) & (of_exemplar < SHUT)])
    told |= {name: sum(values) / len(values) for name, values in far.items()}
    told["lips' gap, error, px"] = float(torch.cat(wrong).mean())
    told["closed lips opened"] = float(torch.cat(opened).double().mean())
    return told


def table(readings: Mapping[str, tuple[Read, Move]], held: Held) -> str:
    """Return a Markdown table: a row for each figure, a column for each reading."""
    columns: dict[str, dict[str, float]] = {}
    for name, (read, move) in readings.items():
        columns[name] = own(read, held) | smiles(read, move, held) | lent(move, held)
    nothing = lambda faces: torch.zeros_like(faces.landmarks)  # noqa: E731
    copy = smiles(nothing, lambda _, __, lain: lain, held) | lent(lambda _, __, x: x, held)
    columns["source as it is"] = copy
    names = list(next(iter(columns.values())))
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    for figure in names:
        values = (c.get(figure) for c in columns.values())
        rows.append([figure, *("" if v is None else f"{v:.{ROUNDING}f}" for v in values)])
    faces = held.true[0].expression
    counts = ", ".join(f"{int((faces == int(c)).sum())} {c}" for c in CLASSES)
    told = f"{counts} faces; {len(held.pairs[0])} pairs of London.\n\n"
    return told + "\n".join(f"| {' | '.join(row)} |" for row in rows)
