"""How what a face shows beyond the person's own rest is learned, in shape and in skin.

Two sorts of examples, each face also as its mirror image:

* people with several photographs, at least one of them neutral (LFW, London): the difference
  between a photograph and the mean of the person's other neutral ones;
* groups of FER2013's faces, which names nobody: the difference between the means of some 24 faces
  of a class and of four times as many neutral ones. Who they are averages out, what they show does
  not, and there are fear, disgust and contempt among them, which nobody else has.

Both are explained by ridge regression from what one photograph shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.synthesizers.transfer.reading import (
    DeviationReader,
    pose_terms,
)
from recipes.real_faces import FER2013, Faces
from recipes.transfer.expression_readings import STEADY, STEADY_WEIGHTS, LandmarkSet, fit, ridge
from recipes.transfer.mesh import (
    STABLE,
    TEXTURE,
    face_samples,
    flip,
    mirror_index,
    opening,
    stabilise,
)

LEVEL_AXES, SHAPE_AXES, SKIN_AXES = 80, 48, 160
SKIN_PENALTY = 400.0
"""Of the ridge regression, for features of unit variance and weights of about 1 per face."""
CROWD_AGREED = 0.6
"""Share of the votes from which a face of FER2013 is in the mean of its class."""
NEUTRAL_WEIGHT, HAPPY_WEIGHT, RARE_WEIGHT, GROUP_WEIGHT = 0.3, 1.0, 4.0, 8.0
GROUP, GROUPS = 24, 120
"""Faces in a group, and groups of a class at most."""
AGREED = 0.5
"""Share of the votes from which a face of FER2013 is in a group."""
LEAST_OPENING = 0.05
"""Of the mouths that the face at rest on which skin is laid out has, as a fraction of the frame."""
SAMPLED = 12000
"""Faces whose skin the axes are found from."""


@dataclass
class Examples:
    """What deviations are learned from: rows of F faces.

    Args:
        row: (P,) photographs.
        rest: of each, other neutral photographs of the person.
        shown, neutral: of each group, faces of a class and neutral faces.
    """

    row: np.ndarray
    rest: list[np.ndarray]
    shown: list[np.ndarray]
    neutral: list[np.ndarray]

    def differences(self, values: np.ndarray) -> np.ndarray:
        """Return what each example deviates in (F, K) values, (P + G, K)."""
        of_pairs = [values[i] - values[o].mean(0) for i, o in zip(self.row, self.rest, strict=True)]
        return np.stack(of_pairs + self._of_groups(values))

    def features(self, values: np.ndarray) -> np.ndarray:
        """Return what (F, M) features explain them, (P + G, M); the first is the constant."""
        grouped = np.stack(self._of_groups(values))
        return np.concatenate([values[self.row], grouped])

    def _of_groups(self, values: np.ndarray) -> list[np.ndarray]:
        pairs = zip(self.shown, self.neutral, strict=True)
        return [values[s].mean(0) - values[n].mean(0) for s, n in pairs]

    def weight(self, expression: np.ndarray) -> np.ndarray:
        """Return how much each example counts, (P + G,)."""
        known = {int(Expression.NEUTRAL): NEUTRAL_WEIGHT, int(Expression.HAPPY): HAPPY_WEIGHT}
        single = [known.get(int(e), RARE_WEIGHT) for e in expression[self.row]]
        of_groups = [
            GROUP_WEIGHT / (4 if expression[s[0]] == Expression.HAPPY else 1) for s in self.shown
        ]
        return np.array(single + of_groups)


def examples(faces: Faces, seed: int = 0) -> Examples:
    """Return the examples that a set of faces holds."""
    row, rest = [], []
    named: dict[str, list[int]] = {}
    for i in np.flatnonzero(faces.person != ""):
        named.setdefault(str(faces.person[i]), []).append(int(i))
    for same in named.values():
        neutral = [k for k in same if faces.expression[k] == Expression.NEUTRAL]
        for k in same:
            if others := [j for j in neutral if j != k]:
                row.append(k)
                rest.append(np.array(others))
    rng = np.random.default_rng(seed)
    nobody = faces.origin == FER2013
    resting = np.flatnonzero(nobody & (faces.votes[:, Expression.NEUTRAL] >= 0.7))
    shown, neutral_of = [], []
    for e in Expression:
        pool = np.flatnonzero(nobody & (faces.expression == e) & (faces.votes[:, e] >= AGREED))
        if e is Expression.NEUTRAL or not len(pool) or not len(resting):
            continue
        for _ in range(min(GROUPS, max(8, 3 * len(pool) // GROUP))):
            shown.append(rng.choice(pool, min(GROUP, len(pool)), replace=False))
            count = min(4 * GROUP, len(resting))
            neutral_of.append(rng.choice(resting, count, replace=False))
    return Examples(np.array(row, int), rest, shown, neutral_of)


def learn(faces: Faces, seed: int = 0) -> tuple[DeviationReader, dict[str, np.ndarray]]:
    """Learn to read deviations.

    Args:
        faces: of training people, not turned far.
        seed: of the groups.

    Returns:
        The reader, and "reference" (478, 2), the face with open mouth and eyes on which skin is
        laid out, "mirror" (478,), "mirrored_shape" and "mirrored_skin", signs of the axes.
    """
    mesh = faces.mesh[..., :2].astype(np.float64)
    photograph, neutral = faces.origin != FER2013, faces.expression == Expression.NEUTRAL
    frontal = np.abs(faces.pose[:, 0]) < 4
    mirror = mirror_index(mesh[frontal & neutral].mean(0))
    stable = stabilise(mesh[photograph])[1]
    stable = (stable + flip(stable[[STABLE.index(int(mirror[k])) for k in STABLE]])) / 2
    still = stabilise(mesh, stable)[0]

    wide = frontal & (faces.expression == Expression.SURPRISE) & (opening(mesh) > LEAST_OPENING)
    reference = still[wide].mean(0)
    reference = (reference + flip(reference[mirror])) / 2
    index, weights, texel = face_samples(reference, TEXTURE)
    # the rings around the face are not skin
    of_face = (index < 478).all(1)
    reader = DeviationReader(SHAPE_AXES, SKIN_AXES, LEVEL_AXES, int(of_face.sum()), TEXTURE).eval()
    assign(reader, "texel", texel[of_face])
    assign(reader, "texel_vertex", index[of_face])
    assign(reader, "texel_weight", weights[of_face])

    known = examples(faces, seed)
    weight = np.tile(known.weight(faces.expression), 2) / 2
    mirrored_shape = learn_shape(reader, faces, mirror)
    mirrored_skin = learn_skin(reader, faces, known, weight, mirrored_shape)
    return reader, {
        "reference": reference,
        "mirror": mirror,
        "mirrored_shape": mirrored_shape,
        "mirrored_skin": mirrored_skin,
    }


def learn_shape(reader: DeviationReader, faces: Faces, mirror: np.ndarray) -> np.ndarray:
    """Learn the shape's part; return the signs of its axes in a mirror."""
    named = faces.person != ""
    people = np.unique(faces.person, return_inverse=True)[1]
    landmarks, scores, pose = (values.double() for values in inputs(faces))
    label = torch.from_numpy(faces.expression).long()
    known = LandmarkSet(landmarks, scores, pose, label, torch.from_numpy(people))
    agreed = ~named & (faces.votes.max(1) >= CROWD_AGREED)
    model = fit(known.take(torch.from_numpy(named)), known.take(torch.from_numpy(agreed)))
    weight = torch.tensor(STEADY_WEIGHTS, dtype=torch.float64).sqrt().repeat_interleave(2)
    steady = torch.tensor([[2 * i, 2 * i + 1] for i in STEADY]).flatten()
    turns = model["by_pose"][:2, steady] * weight
    for name, value in {
        "steady": torch.tensor(STEADY),
        "steady_weight": torch.tensor(STEADY_WEIGHTS),
        "steady_place": model["points"],
        "steady_turn": weight[:, None] * (turns.T @ torch.linalg.inv(turns @ turns.T)),
        "rest": model["rest"],
        "by_pose": model["by_pose"],
        "score_mean": model["rest_scores"],
        "level_axes": model["axes"] / model["scale"],
        "usual": model["usual"],
    }.items():
        assign(reader, name, value.numpy())
    full = model["weight"].numpy()
    shown = reader.shape_features(*inputs(faces)).numpy() @ full
    axes, scale, signs = symmetric_axes(shown, flat_mirror(shown, mirror), SHAPE_AXES)
    # of unit variance along each axis
    assign(reader, "shape_axes", axes * scale[:, None])
    assign(reader, "shape_map", full @ (axes / scale[:, None]).T)
    return signs


def flat_mirror(displacement: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Return (N, 956) displacements as they are in a mirror."""
    points = displacement.reshape(len(displacement), -1, 2)[:, mirror] * [-1, 1]
    return points.reshape(len(displacement), -1)


def learn_skin(
    reader: DeviationReader,
    faces: Faces,
    known: Examples,
    weight: np.ndarray,
    mirrored_shape: np.ndarray,
) -> np.ndarray:
    """Learn the skin's part; return the signs of its axes in a mirror."""
    landmarks, scores, pose = inputs(faces)
    light = np.concatenate([read_skin(reader, faces, part) for part in pieces(len(faces))])
    texel = reader.texel.numpy().astype(int)
    place = np.full(TEXTURE**2, -1)
    place[texel] = np.arange(len(texel))
    other = place[texel // TEXTURE * TEXTURE + TEXTURE - 1 - texel % TEXTURE]
    other = np.where(other < 0, np.arange(len(texel)), other)
    mean = light[faces.expression == Expression.NEUTRAL].mean(0)
    mean = (mean + mean[other]) / 2
    light -= mean
    sampled = np.random.default_rng(0).permutation(len(light))[:SAMPLED]
    axes, scale, signs = symmetric_axes(light[sampled], light[sampled][:, other], SKIN_AXES)
    along, mirrored = light @ axes.T, light[:, other] @ axes.T
    assign(reader, "skin_mean", mean)
    assign(reader, "skin_axes", axes)
    shape = (reader.shape_features(landmarks, scores, pose) @ reader.shape_map).numpy()
    terms = pose_terms(pose).numpy()
    turned = pose_terms(pose * torch.tensor([-1.0, 1.0, -1.0])).numpy()
    one = np.ones((len(light), 1))
    features = [
        known.features(np.concatenate(part, 1).astype(np.float64))
        for part in (
            [one, along / scale, shape, terms],
            [one, mirrored / scale, shape * mirrored_shape, turned],
        )
    ]
    true = np.concatenate([known.differences(along), known.differences(mirrored)])
    x, y, each = (torch.from_numpy(a) for a in (np.concatenate(features), true, weight))
    solved = ridge(x, y, each, SKIN_PENALTY).numpy()
    solved[1 : 1 + SKIN_AXES] /= scale[:, None]
    assign(reader, "skin_map", solved)
    return signs


def read_skin(reader: DeviationReader, faces: Faces, part: slice) -> np.ndarray:
    """Return the skin of some faces, (N, K) float32."""
    some = faces.take(np.arange(len(faces))[part])
    with torch.inference_mode():
        skin: np.ndarray = reader.skin(some.grey().float() / 255, inputs(some)[0]).numpy()
    return skin


def pieces(count: int, size: int = 256) -> list[slice]:
    """Return slices that cover so many faces."""
    return [slice(start, start + size) for start in range(0, count, size)]


def inputs(faces: Faces) -> tuple[Tensor, Tensor, Tensor]:
    """Return landmarks, scores and pose."""
    mesh = torch.from_numpy(faces.mesh[..., :2]).float()
    return mesh, torch.from_numpy(faces.scores).float(), torch.from_numpy(faces.pose).float()


def symmetric_axes(
    values: np.ndarray, mirrored: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the principal axes of values and their mirror images: each stays as it is in a mirror,
    or changes its sign.

    Args:
        values, mirrored: (N, K).
        count: of the axes.

    Returns:
        (count, K) axes, (count,) standard deviations along them, and (count,) signs.
    """
    found = []
    for sign in (1.0, -1.0):
        part = torch.from_numpy((values + sign * mirrored) / 2).float()
        torch.manual_seed(0)
        most = min(count, *part.shape)
        _, size, axes = torch.pca_lowrank(part, q=most, center=False, niter=4)
        found += [
            (float(s) / len(part) ** 0.5, a, sign)
            for s, a in zip(size, axes.T.numpy(), strict=True)
        ]
    found.sort(key=lambda triple: -triple[0])
    scale, axis, signs = zip(*found[:count], strict=True)
    return np.stack(axis).astype(np.float64), np.array(scale), np.array(signs)


def assign(module: torch.nn.Module, name: str, value: np.ndarray) -> None:
    """Fill a buffer."""
    buffer = module.get_buffer(name)
    buffer.copy_(torch.from_numpy(np.asarray(value)).to(buffer.dtype).view_as(buffer))
