"""How far a synthesizer goes at intensity 1: chosen on validation people of LFW.

It goes as far as brings two classifiers of different kinds, one of pictures and one of landmarks,
to see the target as often as in real faces that show it: of the recall ratio r of each counts
min(r, 1 / r). And no further than where one face in ten moves further than 95 % of real faces do,
or the person is no longer verified. None of the classifiers is a loss of any training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from expraug.evaluate.landmarks import FACE, Landmarks, without_pose
from expraug.evaluate.motion import ClassScale
from expraug.expressions import Expression
from expraug.faces.composite import masked
from expraug.faces.landmarks import read_aligned
from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS, create_fer_classifier
from expraug.networks.fer_classifier import FERClassifier
from expraug.networks.identity import IdentityEncoder
from expraug.synthesizer import Synthesizer
from recipes.real_faces import FER2013, FILES, LFW, Faces, extract

LARGEST_ANGLE = 30
"""In degrees of yaw and pitch of a source."""
ENOUGH = 30
"""Real faces of LFW, from which it alone says how often a class is recognised."""
MOST = 150
"""Real faces of a class, of each set."""
AGREED = 0.5
"""Share of the annotators who see the class in a real face of FER2013."""
CERTAIN = 0.95
"""Share of real faces that go less far than what counts as exaggerated."""
_BATCH = 32
_SAME = 0.02  # of the score, which no greater strength is worth


@dataclass(frozen=True)
class Limits:
    """Where to stop.

    Args:
        largest: times the strength that a synthesizer comes with,
        grid: tried at so many places.
        exaggerated: share of the faces, at most, that go further than 95 % of real faces.
        verified: share, at least, whose cosine is above the identity encoder's threshold.
    """

    largest: float = 2.0
    grid: int = 8
    exaggerated: float = 0.1
    verified: float = 0.95


@dataclass(frozen=True)
class RealClass:
    """Real faces that show an expression.

    Args:
        recall: of each classifier.
        landmarks: of the faces.
    """

    recall: list[float]
    landmarks: Landmarks


class Instrument:
    """What looks at faces: two classifiers, and how far landmarks of real faces go.

    Args:
        data: folder of the sets.
        work: of `recipes.real_faces`.
    """

    def __init__(self, data: Path, work: Path) -> None:
        self.classifiers: list[FERClassifier] = [
            create_fer_classifier(name) for name in EMBEDDED_CLASSIFIERS
        ]
        lfw = extract(LFW, data / FILES[LFW][0], work)
        self.lfw = lfw.take(np.flatnonzero(lfw.split == "validation"))
        self.fer2013 = extract(FER2013, data / FILES[FER2013][1], work)
        self.real = {e: self._real(e) for e in Expression}

    def sources(self, target: Expression, count: int) -> Faces:
        """Return faces of LFW that a target is made of: neutral ones, and for neutral the others,
        as frequent as they are."""
        neutral = self.lfw.expression == int(Expression.NEUTRAL)
        frontal = (np.abs(self.lfw.pose[:, :2]) < LARGEST_ANGLE).all(1)
        fits = ~neutral if target == Expression.NEUTRAL else neutral
        return self.lfw.take(_some(np.flatnonzero(fits & frontal), count))

    def recall(self, faces: Tensor, expression: Expression) -> list[float]:
        """Return the share of (N, 3, S, S) faces that each classifier takes for an expression."""
        found = []
        for classifier in self.classifiers:
            column = classifier.expressions.index(expression)
            seen = torch.cat([classifier.probabilities(part) for part in faces.split(_BATCH)])
            found.append(float((seen.argmax(1) == column).float().mean()))
        return found

    def range_of(self, target: Expression) -> Callable[[Landmarks], np.ndarray]:
        """Return what says of landmarks how far they have gone towards a target, as a share of what
        real faces seldom go beyond: above 1 is exaggerated."""
        start = Expression.HAPPY if target == Expression.NEUTRAL else Expression.NEUTRAL
        ends = self.real[start].landmarks, self.real[target].landmarks
        scale = ClassScale(*ends, FACE, tuple(self.real[e].landmarks for e in Expression))
        far = float(np.quantile(scale(ends[1]), CERTAIN))
        return lambda seen: np.asarray(scale(seen)) / far

    def _real(self, expression: Expression) -> RealClass:
        lfw = self.lfw.take(_some(np.flatnonzero(self.lfw.expression == int(expression)), MOST))
        share = self.fer2013.votes[:, int(expression)]
        clear = (self.fer2013.majority == int(expression)) & (share >= AGREED)
        others = self.fer2013.take(_some(np.flatnonzero(clear & ~self.fer2013.duplicate), MOST))
        told = lfw if len(lfw) >= ENOUGH else others
        marks = [marks_of(f.tensor(), people_of(f)) for f in (lfw, others) if len(f)]
        every = Landmarks(
            np.concatenate([m.points for m in marks]), [p for m in marks for p in m.people]
        )
        return RealClass(self.recall(told.tensor(), expression), every)


@torch.inference_mode()
def calibrate(
    model: Synthesizer,
    strength: Tensor,
    instrument: Instrument,
    encoder: IdentityEncoder | None,
    limits: Limits,
    count: int,
) -> list[dict[str, str]]:
    """Multiply the strength of each expression by what is best, and return the figures behind it.

    Args:
        model: goes as far as `strength` says, in proportion.
        strength: (E,) in the order of its expressions; changed in place.
        instrument: see there.
        encoder: of identity; None tries without.
        limits: see there.
        count: faces that each expression is made of.
    """
    first = strength.clone()
    strength.mul_(limits.largest)
    shares = [(n + 1) / limits.grid for n in range(limits.grid)]
    chosen, lines = [], []
    for target in model.expressions:
        sources = instrument.sources(target, count)
        tried = [
            measure(model, sources, target, share, instrument, encoder) | {"share": share}
            for share in shares
        ]
        best = choose(tried, limits)
        chosen.append(best["share"])
        figures = {name: f"{value:.2f}" for name, value in best.items() if name != "share"}
        times = {"times": f"{best['share'] * limits.largest:.2f}"}
        lines.append({"": str(target)} | times | figures)
        print(lines[-1], flush=True)
    factor = torch.tensor(chosen).to(first) * limits.largest
    strength.copy_(first * factor)
    return lines


def choose(tried: Sequence[dict[str, float]], limits: Limits) -> dict[str, float]:
    """Return the weakest of those that score as well as any within the limits; the weakest of all
    where none is."""
    within = [
        t
        for t in tried
        if t["exaggerated"] <= limits.exaggerated and not t["verified"] < limits.verified
    ]
    enough = max((t["score"] for t in within), default=0.0) - _SAME
    return next((t for t in within if t["score"] >= enough), tried[0])


def measure(
    model: Synthesizer,
    sources: Faces,
    target: Expression,
    intensity: float,
    instrument: Instrument,
    encoder: IdentityEncoder | None,
) -> dict[str, float]:
    """Return what is seen in faces that are made at one intensity."""
    before = sources.tensor()
    after = make(model, sources, target, intensity)
    real = instrument.real[target].recall
    ratios = [s / max(r, 0.01) for s, r in zip(instrument.recall(after, target), real, strict=True)]
    marks = marks_of(after, people_of(sources))
    gone = instrument.range_of(target)(marks)
    figures = {
        "score": float(np.mean([min(r, 1 / max(r, 1e-6)) for r in ratios])),
        **dict(zip(EMBEDDED_CLASSIFIERS, ratios, strict=True)),
        "exaggerated": float((gone > 1).mean()),
        "verified": float("nan"),
    }
    if encoder is not None:
        pairs = zip(before.split(_BATCH), after.split(_BATCH), strict=True)
        alike = torch.cat([(encoder(a) * encoder(b)).sum(1) for a, b in pairs])
        figures["verified"] = float((alike > encoder.threshold).float().mean())
    return figures


@torch.inference_mode()
def make(model: Synthesizer, faces: Faces, target: Expression, intensity: float) -> Tensor:
    """Return (N, 3, 128, 128) faces in 256 steps of light, changed as compositing shows it."""
    arrays = (faces.mesh[..., :2], faces.scores, faces.pose)
    points = [torch.from_numpy(a).float() for a in arrays]
    names = ("landmarks", "blendshapes", "pose")
    made = []
    for face, *seen in zip(*(t.split(_BATCH) for t in (faces.tensor(), *points)), strict=True):
        inputs = dict(zip(names, seen, strict=True)) if model.needs_landmarks else {}
        asked = torch.full((len(face),), int(target))
        change = model.synthesize(face, asked, torch.full((len(face),), intensity), **inputs)
        made.append(masked(change).render(face))
    return (torch.cat(made) * 255).round() / 255


def marks_of(faces: Tensor, people: list[str]) -> Landmarks:
    """Return the landmarks of (N, 3, S, S) faces, as `expraug.evaluate` compares them."""
    points = torch.cat([read_aligned(part)[0] for part in faces.split(_BATCH)])
    return Landmarks(without_pose(points.double().numpy())[0], people)


def people_of(faces: Faces) -> list[str]:
    """Return a name for each face: those of sets that name nobody are somebody else each."""
    return [p or f"row {r}" for p, r in zip(faces.person, faces.row, strict=True)]


def print_table(lines: list[dict[str, str]]) -> None:
    """Print the figures behind the edit strengths."""
    table = Table(title="Edit strengths, chosen on validation people of LFW")
    for name in lines[0]:
        table.add_column(name)
    for line in lines:
        table.add_row(*line.values())
    Console(width=120).print(table)


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(rows)[:most]
