"""What the landmarks of a face show beyond the person's own rest, read from one photograph.

`fit` learns it from people with several photographs, one of them neutral: how far the landmarks of
each lie from the person's neutral ones, the **deviation**, is linear in the principal components of
the landmarks and in the blendshape scores. `fit_two_covariances` fills the same tensors by another
way. `recipes.transfer.compare_expression_readings` says which reads best.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.face_mesh import load_face_landmarker
from recipes.transfer.mesh import (
    LOWER_IN,
    MIRRORED_SCORES,
    STABLE,
    STABLE_WEIGHTS,
    UPPER_IN,
    mirror_index,
)

STEADY = (*STABLE, 195, 5, 4, 1, 2)
"""What expressions hardly move: `mesh.STABLE` and the nose from its bridge to its tip. Without the
nose, neutral photographs of a person differ by 8 % more, and angry faces stand out less."""
STEADY_WEIGHTS = (*STABLE_WEIGHTS, 1, 1, 1, 1, 1)
COMPONENTS = 80
"""Principal components of the landmarks: 40 and 120 read as well or worse on other people."""
PENALTY = 300.0
"""Of the ridge, on standardised components and on scores times `SCORE_SCALE`."""
SCORE_SCALE = 3.0
RARE = 4.0
"""Weight of a face that is neither neutral nor happy: of these LFW has twenty times as many."""
MEAN_WEIGHT = 300.0
"""Weight of the difference between the mean face of an expression and the mean neutral face in a
set without names, where the persons cancel out."""
ONE_SIDED = 0.3
"""Weight of a face that is composed to show its expression on one side only: without them 0.58 of
a one-sided smile is read, at 0.3 it is 0.83 and R² loses 0.01, at 1 0.88 and R² loses 0.02."""
FADE = 0.03
"""Canonical units over which it fades out across the middle of the face."""
FLOOR = 0.1
"""Share of the diagonal that is added to a covariance before it is inverted."""

Model = dict[str, Tensor]


@dataclass(frozen=True)
class LandmarkSet:
    """Landmarks of N faces, and what is known of them.

    Args:
        landmarks: (N, 478, 2) float64, canonical units.
        scores: (N, 52) float64 blendshape scores.
        pose: (N, 3) float64 yaw, pitch and roll in degrees.
        expression: (N,) long, values of `Expression`.
        person: (N,) long, the same for the photographs of one person.
    """

    landmarks: Tensor
    scores: Tensor
    pose: Tensor
    expression: Tensor
    person: Tensor

    def __len__(self) -> int:
        return len(self.expression)

    def take(self, index: Tensor) -> LandmarkSet:
        """Return the faces at an index or mask."""
        return LandmarkSet(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def flipped(self) -> LandmarkSet:
        """Return the mirror images, as faces of other people."""
        frontal = self.pose[:, 0].abs() < 8
        chosen = frontal if frontal.sum() > 2 else torch.ones_like(frontal)
        index = torch.from_numpy(mirror_index(self.landmarks[chosen].mean(0).numpy()))
        sign = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        return LandmarkSet(
            self.landmarks[:, index] * sign + (1 - sign) / 2,
            self.scores[:, torch.from_numpy(MIRRORED_SCORES)],
            self.pose * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64),
            self.expression,
            self.person + int(self.person.max()) + 1,
        )


def joined(*parts: LandmarkSet) -> LandmarkSet:
    """Return several sets as one."""
    names = [f.name for f in fields(LandmarkSet)]
    return LandmarkSet(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


def load_landmarks(file: Path) -> tuple[LandmarkSet, np.ndarray, np.ndarray]:
    """Return what `recipes.real_faces` found, without the pictures.

    Returns:
        The faces; expressions are those that most annotators saw. (N,) their splits, and (N,) the
        share of the annotators who agree with the expression.
    """
    with np.load(file) as saved:
        person = np.unique(saved["person"], return_inverse=True)[1]
        votes = saved["votes"]
        mesh, scores, pose = (
            torch.from_numpy(saved[n]).double() for n in ("mesh", "scores", "pose")
        )
        found = LandmarkSet(
            mesh,
            scores,
            pose,
            torch.from_numpy(votes.argmax(1)),
            torch.from_numpy(person),
        )
        return found, saved["split"], votes.max(1)


def lay_over(landmarks: Tensor, points: Tensor) -> Tensor:
    """Return (N, 478, 2) landmarks moved, turned and scaled until steady ones lie on `points`.

    Args:
        landmarks: (N, 478, 2).
        points: (21, 2), where the landmarks `STEADY` are to lie.
    """
    weight = torch.tensor(STEADY_WEIGHTS, dtype=landmarks.dtype)
    weight = weight / weight.sum()
    z, goal = torch.view_as_complex(landmarks.contiguous()), torch.view_as_complex(points)
    own = z[:, list(STEADY)]
    middle, goal_middle = (own * weight).sum(1, keepdim=True), (goal * weight).sum()
    own, goal = own - middle, goal - goal_middle
    # least squares (Umeyama 1991); in the complex plane one factor turns and scales
    factor = (own.conj() * goal * weight).sum(1, keepdim=True)
    factor = factor / (own.abs().square() * weight).sum(1, keepdim=True)
    return torch.view_as_real((z - middle) * factor + goal_middle)


def pose_terms(pose: Tensor) -> Tensor:
    """Return (N, 13) polynomials of the pose in degrees, of third order."""
    y, p, r = (pose / 30).unbind(1)
    third = [y**3, y * y * p, y * p * p, p**3, r * y, r * p, r * r]
    return torch.stack([y, p, r, y * y, y * p, p * p, *third], 1)


def steady_points(faces: LandmarkSet) -> Tensor:
    """Return (21, 2), where the landmarks `STEADY` lie in the mean of faces and mirror images."""
    return faces.landmarks[:, list(STEADY)].mean(0)


def fit_pose(faces: LandmarkSet, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return how neutral landmarks follow the pose, (13, 956), and the neutral face at rest and to
    the front, (956,)."""
    neutral = faces.take(faces.expression == int(Expression.NEUTRAL))
    shape = lay_over(neutral.landmarks, points).flatten(1)
    terms = pose_terms(neutral.pose)
    one = torch.ones(len(terms), 1, dtype=terms.dtype)
    by_pose = torch.linalg.lstsq(torch.cat([one, terms], 1), shape).solution[1:]
    return by_pose, (shape - terms @ by_pose).mean(0)


def levelled(model: Model, landmarks: Tensor, pose: Tensor) -> Tensor:
    """Return (N, 956) landmarks laid over the steady points, less what the pose does to them.

    The pose of a photograph is known to a few degrees only. What is left of yaw and pitch is read
    off the steady points: it must not pass for an expression.
    """
    shape = lay_over(landmarks, model["points"]).flatten(1)
    level = shape - pose_terms(pose) @ model["by_pose"]
    steady = torch.tensor([[2 * i, 2 * i + 1] for i in STEADY]).flatten()
    weight = torch.tensor(STEADY_WEIGHTS, dtype=level.dtype).sqrt().repeat_interleave(2)
    turns = model["by_pose"][:2]
    seen, left = turns[:, steady] * weight, (level - model["rest"])[:, steady] * weight
    angle = torch.linalg.solve(seen @ seen.T, seen @ left.T).T
    result: Tensor = level - angle @ turns
    return result


def deviations(values: Tensor, faces: LandmarkSet) -> tuple[Tensor, Tensor]:
    """Return which faces have another, neutral photograph of the same person, (M,) long, and by
    how much their values differ from the mean of those, (M, K).

    Args:
        values: (N, K).
    """
    neutral = (faces.expression == int(Expression.NEUTRAL)).to(values.dtype)
    people = int(faces.person.max()) + 1
    total = values.new_zeros(people, values.shape[1])
    total.index_add_(0, faces.person, values * neutral[:, None])
    count = values.new_zeros(people).index_add_(0, faces.person, neutral)
    others = count[faces.person] - neutral
    rows = (others > 0).nonzero()[:, 0]
    mean = (total[faces.person] - values * neutral[:, None])[rows] / others[rows, None]
    return rows, values[rows] - mean


def start(faces: LandmarkSet) -> Model:
    """Return the tensors that `features` needs, learned from faces and their mirror images."""
    points = steady_points(faces)
    by_pose, rest = fit_pose(faces, points)
    model = {"points": points, "by_pose": by_pose, "rest": rest}
    centred = levelled(model, faces.landmarks, faces.pose) - rest
    value, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    model["axes"] = axes.flip(1)[:, :COMPONENTS]
    model["scale"] = value.flip(0)[:COMPONENTS].clamp(min=1e-12).sqrt()
    model["rest_scores"] = faces.scores[faces.expression == int(Expression.NEUTRAL)].mean(0)
    return model


def features(model: Model, landmarks: Tensor, scores: Tensor, pose: Tensor) -> Tensor:
    """Return what the deviation is linear in: (N, 1 + 80 + 52)."""
    centred = levelled(model, landmarks, pose) - model["rest"]
    shape = centred @ model["axes"] / model["scale"]
    scores = (scores - model["rest_scores"]) * SCORE_SCALE
    return torch.cat([torch.ones_like(shape[:, :1]), shape, scores], 1)


def weights(expression: Tensor) -> Tensor:
    """Return (N,) the weight of each face."""
    return torch.where(expression <= int(Expression.HAPPY), 1.0, RARE).double()


def ridge(x: Tensor, y: Tensor, weight: Tensor, penalty: float) -> Tensor:
    """Return the weighted ridge regression of (N, K) y on (N, M) x; x's first column is 1 and free
    of charge."""
    costs = torch.full_like(x[0], penalty)
    costs[0] = 1e-6
    weighted = (x * weight[:, None]).T
    result: Tensor = torch.linalg.solve(weighted @ x + costs.diag(), weighted @ y)
    return result


def fit(
    faces: LandmarkSet,
    crowd: LandmarkSet | None = None,
    penalty: float = PENALTY,
    one_sided: float = ONE_SIDED,
) -> Model:
    """Return a reading of the deviation, to be used by `apply`.

    Args:
        faces: of people with several photographs, one of them neutral; mirror images are added.
        crowd: faces of other people, one photograph each. The mean face of an expression less the
            mean neutral face is the mean deviation there, and is learned as one more sample.
        penalty: of the ridge.
        one_sided: weight of `composed` faces, against the photographs that they come from.

    Returns:
        points (21, 2), by_pose (13, 956), rest (956,), axes (956, 80), scale (80,),
        rest_scores (52,), weight (133, 956), usual (), the root mean square of what is read off
        neutral faces; all float64.
    """
    both = joined(faces, faces.flipped())
    model = start(both)
    rows, y = deviations(levelled(model, both.landmarks, both.pose), both)
    x = features(model, both.landmarks, both.scores, both.pose)[rows]
    weight = weights(both.expression[rows])
    if one_sided:
        half, share = composed(model, both, rows, y)
        more = features(model, half.landmarks, half.scores, half.pose)
        x, y = torch.cat([x, more]), torch.cat([y, share])
        weight = torch.cat([weight, one_sided * weights(half.expression)])
    if crowd is not None:
        more, goal = mean_differences(model, joined(crowd, crowd.flipped()))
        x, y = torch.cat([x, more]), torch.cat([y, goal])
        weight = torch.cat([weight, torch.full_like(more[:, 0], MEAN_WEIGHT)])
    model["weight"] = ridge(x, y, weight, penalty)
    neutral = both.take(both.expression == int(Expression.NEUTRAL))
    found = apply(model, neutral.landmarks, neutral.scores, neutral.pose)
    model["usual"] = found.square().mean().sqrt()
    return model


def composed(
    model: Model, faces: LandmarkSet, rows: Tensor, away: Tensor
) -> tuple[LandmarkSet, Tensor]:
    """Return faces with the expression of one half only, and their deviations, (M, 956).

    Few photographs are so: from those, a ridge learns to read half of an asymmetry.

    Args:
        rows, away: of the faces, as `deviations` returns them.
    """
    expressive = faces.expression[rows] != int(Expression.NEUTRAL)
    some, away = faces.take(rows[expressive]), away[expressive].unflatten(1, (-1, 2))
    lain = lay_over(some.landmarks, model["points"])
    middle = model["rest"].unflatten(0, (-1, 2))[[168, 6, 197], 0].mean()
    share = torch.sigmoid((middle - lain[..., :1]) / FADE)
    half = lain - (1 - share) * away
    with torch.no_grad():
        scores = load_face_landmarker().blendshapes(half.float()).double()
    found = LandmarkSet(half, scores, some.pose, some.expression, some.person)
    return found, (share * away).flatten(1)


def mean_differences(model: Model, crowd: LandmarkSet) -> tuple[Tensor, Tensor]:
    """Return by how much the mean features and landmarks of each expression of a crowd differ from
    those of its neutral faces: (E, 133) and (E, 956)."""
    x = features(model, crowd.landmarks, crowd.scores, crowd.pose)
    y = levelled(model, crowd.landmarks, crowd.pose)
    there = [e for e in Expression if (crowd.expression == int(e)).any()]
    means = {e: [v[crowd.expression == int(e)].mean(0) for v in (x, y)] for e in there}
    rest = means.pop(Expression.NEUTRAL)
    pairs = [torch.stack([m[i] - rest[i] for m in means.values()]) for i in range(2)]
    return pairs[0], pairs[1]


def fit_two_covariances(faces: LandmarkSet) -> Model:
    """Return a reading by a two-covariance model (Brümmer and de Villiers 2010), for `apply`.

    A face is its person's rest, of covariance B between people, and a deviation, of covariance W
    within people; what is returned is the deviation's posterior mean.

    Args:
        faces: as `fit` takes them; B is learned from all people.
    """
    both = joined(faces, faces.flipped())
    model = start(both)
    x = features(model, both.landmarks, both.scores, both.pose)[:, 1:]
    neutral = both.expression == int(Expression.NEUTRAL)
    rows, within = deviations(x, both)
    weight = weights(both.expression[rows])
    # noise: what differs between two neutral photographs, half of it in either
    at_rest = within[neutral[rows]]
    noise = at_rest.T @ at_rest / len(at_rest) / 2
    mean = (within * weight[:, None]).sum(0) / weight.sum()
    centred = within - mean
    own = (centred * weight[:, None]).T @ centred / weight.sum() - noise
    of_neutral = x[neutral] - x[neutral].mean(0)
    between = of_neutral.T @ of_neutral / len(of_neutral) - noise
    own, between = _positive(own), _positive(between)
    total = own + between
    gain = torch.linalg.solve(total + FLOOR * total.diagonal().diag(), own)[:, :COMPONENTS]
    constant = mean[:COMPONENTS] - (x[neutral].mean(0) + mean) @ gain
    to_landmarks = (model["axes"] * model["scale"]).T
    model["weight"] = torch.cat([constant[None], gain]) @ to_landmarks
    return model


def _positive(matrix: Tensor) -> Tensor:
    """Return the nearest positive semi-definite matrix."""
    value, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    result: Tensor = (vectors * value.clamp(min=0)) @ vectors.T
    return result


def apply(model: Model, landmarks: Tensor, scores: Tensor, pose: Tensor) -> Tensor:
    """Return the deviation of landmarks from the person's rest, (N, 478, 2) in canonical units.

    Args:
        model: from `fit` or `fit_two_covariances`.
        landmarks: (N, 478, 2), any similarity of the canonical frame.
        scores: (N, 52) blendshape scores.
        pose: (N, 3) yaw, pitch and roll in degrees.
    """
    found = features(model, landmarks, scores, pose) @ model["weight"]
    result: Tensor = found.unflatten(1, (-1, 2))
    return result


def lend(model: Model, lain: Tensor, own: Tensor, lent: Tensor, exemplars: Tensor) -> Tensor:
    """Return sources' landmarks with exemplars' expressions, (N, 478, 2).

    What is read off a face at rest is half the person: of a small deviation half is taken away, of
    a large one nearly all. The gap between the inner lips needs no reading: it is the exemplar's.

    Args:
        model: from `fit`.
        lain: (N, 478, 2) the sources' landmarks, laid over the steady points.
        own: (N, 478, 2) the sources' deviations; lent: those of the exemplars.
        exemplars: (N, 478, 2) their landmarks, laid over the steady points.
    """
    size = own.square().mean((1, 2), keepdim=True)
    moved = lain + lent - own * size / (size + model["usual"].square())
    upper, lower = list(UPPER_IN[1:-1]), list(LOWER_IN[1:-1])
    wide = [(lips[:, 308] - lips[:, 78]).norm(dim=1) for lips in (moved, exemplars)]
    wanted = exemplars[:, lower, 1] - exemplars[:, upper, 1]
    wanted = wanted * (wide[0] / wide[1].clamp(min=1e-6))[:, None]
    wrong = (wanted - (moved[:, lower, 1] - moved[:, upper, 1])) / 2
    moved[:, lower, 1] += wrong
    moved[:, upper, 1] -= wrong
    return moved
