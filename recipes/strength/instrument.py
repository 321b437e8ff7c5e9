"""What looks at synthetics to say how strong they are: two classifiers of different kinds, and how
far landmarks go.

One classifier sees pictures, the other landmarks; none of them is a loss of any training. They look
at what is made of neutral faces of validation people of LFW and London, and at real faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.landmarks import FACE, Landmarks, without_pose
from expraug.evaluate.motion import ClassScale
from expraug.expressions import Expression
from expraug.faces.composite import masked
from expraug.faces.read import read_face
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.landmark_classifier import load_landmark_classifier
from expraug.synthesizer import Synthesizer
from recipes.real_faces import FER2013, FILES, LFW, LONDON, Faces, concatenate, extract

FAMILIES = ("pictures", "landmarks")
"""What the two classifiers see."""
LARGEST_ANGLE = 30
"""In degrees of yaw and pitch of a source."""
ENOUGH = 30
"""Real faces of a set from which it says as much as any other about how often a class is
recognised."""
MOST = 150
"""Real faces of a class, of each set."""
AGREED = 0.5
"""Share of the annotators who see the class in a real face of FER2013."""
CERTAIN = 0.95
"""Share of real faces that go less far than what counts as exaggerated."""
_BATCH = 32
_SELDOM = 0.25  # of real faces; a class that is taken for itself less often has few here


@dataclass(frozen=True)
class Seen:
    """What is seen in N faces.

    Args:
        probabilities: (2, N, 8) float, by each of the families; of values of `Expression`.
        landmarks: of the faces.
    """

    probabilities: Tensor
    landmarks: Landmarks

    def recall(self, expression: Expression) -> np.ndarray:
        """Return the share that each family takes for an expression, (2,)."""
        taken: np.ndarray = (
            (self.probabilities.argmax(2) == int(expression)).float().mean(1).numpy()
        )
        return taken


@dataclass(frozen=True)
class Real:
    """What is seen in real faces of a class.

    Args:
        recall, clarity: (2,), by each family: the share that it takes for the class, and the mean
            probability that it gives it; of each set as much as it has faces, up to `ENOUGH`.
        landmarks: of all of them.
    """

    recall: np.ndarray
    clarity: np.ndarray
    landmarks: Landmarks


class Instrument:
    """Looks at faces, real and made.

    Args:
        data: folder of the sets.
        work: of `recipes.real_faces`.
    """

    def __init__(self, data: Path, work: Path) -> None:
        named = concatenate([extract(o, data / FILES[o][0], work) for o in (LONDON, LFW)])
        validation = named.take(np.flatnonzero(named.split == "validation"))
        self.begin(validation, extract(FER2013, data / FILES[FER2013][1], work))

    def begin(self, named: Faces, fer2013: Faces) -> None:
        """Look from now on at these faces of validation people, named ones and those of FER2013."""
        self.pictures, self.marks = load_fer_classifier(), load_landmark_classifier()
        self.named, self.fer2013 = named, fer2013
        self._real: dict[Expression, Real] = {}

    def sources(self, target: Expression, count: int) -> Faces:
        """Return faces of named people that a target is made of: neutral ones, and for neutral the
        others, as frequent as they are. The few of London come first."""
        neutral = self.named.expression == int(Expression.NEUTRAL)
        frontal = (np.abs(self.named.pose[:, :2]) < LARGEST_ANGLE).all(1)
        fits = frontal & (~neutral if target == Expression.NEUTRAL else neutral)
        london = self.named.origin == LONDON
        rows = [_some(np.flatnonzero(fits & some), count) for some in (london, ~london)]
        return self.named.take(np.concatenate(rows)[:count])

    def measure(self, faces: Tensor, people: list[str]) -> Seen:
        """Return what is seen in (N, 3, S, S) faces of N people."""
        found: list[list[Tensor]] = []
        for part in faces.split(_BATCH):
            read = read_face(part)
            told = self.marks.logits(read.landmarks, read.scores).softmax(1)
            told = torch.where(read.there[:, None], told, 1 / told.shape[1])
            found.append([self.pictures.probabilities(part), told, read.landmarks])
        pictures, marks, points = (torch.cat(parts) for parts in zip(*found, strict=True))
        both = torch.zeros(2, len(faces), len(Expression))
        known = (self.pictures.expressions, self.marks.expressions)
        for family, (expressions, told) in enumerate(zip(known, (pictures, marks), strict=True)):
            both[family, :, [int(e) for e in expressions]] = told
        return Seen(both, Landmarks(without_pose(points.double().numpy())[0], people))

    def real(self, expression: Expression) -> Real:
        """Return what is seen in real faces of a class."""
        if expression not in self._real:
            share = self.fer2013.votes[:, int(expression)]
            clear = (self.fer2013.majority == int(expression)) & (share >= AGREED)
            shows = self.named.expression == int(expression)
            sets = [
                self.named.take(_some(np.flatnonzero(shows & some), MOST))
                for some in (self.named.origin == LONDON, self.named.origin != LONDON)
            ]
            sets.append(
                self.fer2013.take(_some(np.flatnonzero(clear & ~self.fer2013.duplicate), MOST))
            )
            seen = [self.measure(faces.tensor(), people_of(faces)) for faces in sets if len(faces)]
            weights = [min(len(s.landmarks.people), ENOUGH) for s in seen]
            clarity = [s.probabilities[:, :, int(expression)].mean(1).numpy() for s in seen]
            self._real[expression] = Real(
                np.average([s.recall(expression) for s in seen], 0, weights),
                np.average(clarity, 0, weights),
                Landmarks(
                    np.concatenate([s.landmarks.points for s in seen]),
                    [person for s in seen for person in s.landmarks.people],
                ),
            )
        return self._real[expression]

    def range_of(self, target: Expression) -> Callable[[Landmarks], np.ndarray]:
        """Return what says of landmarks how far they have gone towards a target, as a share of what
        real faces seldom go beyond: above 1 is exaggerated."""
        start = Expression.HAPPY if target == Expression.NEUTRAL else Expression.NEUTRAL
        ends = self.real(start).landmarks, self.real(target).landmarks
        scale = ClassScale(*ends, FACE, tuple(self.real(e).landmarks for e in Expression))
        far = float(np.quantile(scale(ends[1]), CERTAIN))
        return lambda seen: np.asarray(scale(seen)) / far

    def ratios(self, seen: Seen, target: Expression) -> np.ndarray:
        """Return how often each family sees the target, over how often it does so in real faces
        that show it, (2,)."""
        usual = np.maximum(self.real(target).recall, _SELDOM)
        ratios: np.ndarray = seen.recall(target) / usual
        return ratios

    def clarity(self, target: Expression) -> Tensor:
        """Return the mean probability that each family gives real faces of a target, (2,)."""
        return torch.from_numpy(self.real(target).clarity).float().clamp(min=_SELDOM)


@torch.inference_mode()
def make(model: Synthesizer, faces: Faces, target: Expression) -> Tensor:
    """Return (N, 3, 128, 128) faces in 256 steps of light, changed as compositing shows it at
    intensity 1, each with a variant of its own as far as there are so many."""
    arrays = (faces.mesh[..., :2], faces.scores, faces.pose)
    points = [torch.from_numpy(a).float() for a in arrays]
    names = ("landmarks", "blendshapes", "pose")
    made, every = [], torch.arange(len(faces)) % model.variants
    parts = (t.split(_BATCH) for t in (faces.tensor(), every, *points))
    for face, variant, *seen in zip(*parts, strict=True):
        inputs = dict(zip(names, seen, strict=True)) if model.needs_landmarks else {}
        if model.variants > 1:
            inputs["variant"] = variant
        asked = torch.full((len(face),), int(target))
        change = model.synthesize(face, asked, torch.ones(len(face)), **inputs)
        made.append(masked(change).render(face))
    return (torch.cat(made) * 255).round() / 255


def people_of(faces: Faces) -> list[str]:
    """Return a name for each face: those of sets that name nobody are somebody else each."""
    return [p or f"row {r}" for p, r in zip(faces.person, faces.row, strict=True)]


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(rows)[:most]
