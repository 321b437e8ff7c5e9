"""Classifier recall, synthetic/real: does a FER classifier see the target as it does in real faces?

A source of which nothing could be made counts as one in which the target is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Bootstrap, Estimate, ratio
from expraug.evaluate.context import Context, Synthetics
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.result import Line, Result
from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERClassifier

NAME = "classifier recall"
BASIC = tuple(Expression)[1:7]
"""Happy, sad, surprise, fear, disgust, angry."""
INTENSITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class TargetRecall:
    """How well the classifier recognises one target expression.

    Args:
        sources: what the source faces show.
        synthetic: share of the sources of which a synthetic was made that the classifier takes for
            the target.
        real: share of the real faces of that class that it takes for it.
        real_from: the set of those real faces.
        ratio: synthetic / real; nan where the classifier recognises no real face.
        curve: mean probability of the target at each of `INTENSITIES`, in what users get.
        rises: whether the curve rises at every step.
        other_sources, other_recall: the same of faces that show another accepted expression.
        reference_recall: of real faces of the class in the reference set, where the ratio is not
            to them already: classifiers do worse, or better, on other sets.
    """

    sources: str
    synthetic: Estimate
    real: Estimate
    real_from: str
    ratio: Estimate
    curve: list[float]
    rises: bool
    other_sources: str = ""
    other_recall: Estimate | None = None
    reference_recall: Estimate | None = None


@dataclass
class ClassifierRecall(Result):
    """Recalls by target.

    Args:
        classifier: its name, with the first digits of its weights' sha256.
        targets: by target.
        mean: mean ratio over the basic expressions there are; n counts those.
        data, reference: names of the sets.
    """

    classifier: str
    targets: dict[str, TargetRecall]
    mean: Estimate | None
    data: str
    reference: str

    def caption(self) -> str:
        return f"classifier {self.classifier}"

    def lines(self) -> list[Line]:
        name = "recall, synthetic/real"
        lines = []
        for target, t in self.targets.items():
            where = "" if t.real_from == self.data else f" {t.real_from}"
            beside = f"{t.synthetic.value:.3f} synthetic, {t.real.value:.3f} of {t.real.n} real"
            lines.append(Line(name, target, str(t.ratio), beside + where, str(t.ratio.n)))
        if self.mean:
            lines.append(Line(name, "mean", str(self.mean), f"{self.mean.n} of 6 basic ones"))
        for target, t in self.targets.items():
            curve = " ".join(f"{p:.2f}" for p in t.curve)
            word = "rises" if t.rises else "DOES NOT RISE"
            beside = f"{word}; intensity {', '.join(f'{i:g}' for i in INTENSITIES)}"
            lines.append(Line("probability", target, curve, beside, str(t.synthetic.n)))
        for target, t in self.targets.items():
            if (e := t.reference_recall) is not None:
                lines.append(Line("recall, real", target, str(e), self.reference, str(e.n)))
        for target, t in self.targets.items():
            if (e := t.other_recall) is not None:
                beside = f"made of {t.other_sources}"
                lines.append(Line("recall, synthetic", target, str(e), beside, str(e.n)))
        return lines


def measure(context: Context) -> ClassifierRecall:
    """Measure every target that the classifier knows."""
    rounds: dict[Expression, np.ndarray] = {}

    def of(target: Expression) -> TargetRecall:
        found, rounds[target] = measure_target(context, target)
        return found

    targets = context.by_target(NAME, of)
    basic = [r for target, r in rounds.items() if target in BASIC]
    return ClassifierRecall(
        classifier=context.classifier.name,
        targets=targets,
        mean=Estimate.of(np.mean(basic, axis=0), len(basic)) if basic else None,
        data=context.data.name,
        reference=context.reference.name if context.reference else "",
    )


def faces_to_make(context: Context) -> int:
    """Return how many faces are made for this measure alone."""
    known = [t for t in context.targets if t in context.classifier.expressions]
    steps = len(INTENSITIES) - 2
    return sum(
        steps * len(context.sources(t)) + len(context.other_sources(t).indices) for t in known
    )


def measure_target(context: Context, target: Expression) -> tuple[TargetRecall, np.ndarray]:
    """Measure one target expression.

    Returns:
        The recall, and the rounds of its ratio for the mean over targets.

    Raises:
        TooFewFacesError: the classifier does not know the target, or no real face shows it.
    """
    classifier, data, bootstrap = context.classifier, context.data, context.bootstrap
    if target not in classifier.expressions:
        raise TooFewFacesError(f"{classifier.name} does not know it")
    real_set = context.real(target)
    if not len(real_set.of(target)):
        raise TooFewFacesError("no real face shows it; give a reference set (--reference)")
    sources = context.sources(target)
    curve = [
        float(target_probabilities(context, target, intensity).mean()) for intensity in INTENSITIES
    ]
    seen = recognised(context, target)
    recall = bootstrap.mean(seen, data.who(sources.indices))
    real, count = real_recall(classifier, real_set, target, bootstrap)
    quotient = ratio(recall, real)
    reference = context.reference
    elsewhere = None
    if reference is not None and reference is not real_set and len(reference.of(target)):
        elsewhere = Estimate.of(*real_recall(classifier, reference, target, bootstrap))
    others = context.other_sources(target)
    other = None
    if len(others):
        made = context.synthetics(target, indices=others.indices, keep=False)
        other = bootstrap.estimate(_seen(classifier, made, target), data.who(others.indices))
    found = TargetRecall(
        sources=sources.shown,
        synthetic=Estimate.of(recall, len(seen)),
        real=Estimate.of(real, count),
        real_from=real_set.name,
        ratio=Estimate.of(quotient, len(seen)),
        curve=curve,
        rises=all(a < b for a, b in pairwise(curve)),
        other_sources=others.shown,
        other_recall=other,
        reference_recall=elsewhere,
    )
    return found, quotient


def classified(classifier: FERClassifier, faces: Tensor, batch_size: int = 256) -> Tensor:
    """Return (N, E) probabilities of (N, 3, S, S) uint8 faces."""
    parts = [classifier.probabilities(part.float() / 255) for part in faces.split(batch_size)]
    return torch.cat(parts) if parts else torch.empty(0, len(classifier.expressions))


def target_probabilities(
    context: Context, target: Expression, intensity: float = 1.0
) -> np.ndarray:
    """Return the probability of a target in what became of each source: (N,) float."""
    column = context.classifier.expressions.index(target)
    return _probabilities(context, target, intensity)[:, column].numpy()


def recognised(context: Context, target: Expression) -> np.ndarray:
    """Return, for each source, whether the classifier sees the target in what was made of it.

    Returns:
        (N,) bool; False where nothing was made.
    """
    column = context.classifier.expressions.index(target)
    seen = _probabilities(context, target, 1.0).argmax(1) == column
    return (seen & context.synthetics(target).made).numpy()


def _probabilities(context: Context, target: Expression, intensity: float) -> Tensor:
    def look() -> Tensor:
        made = context.synthetics(target, intensity, keep=intensity == 1)
        return classified(context.classifier, made.faces)

    return context.once(("probabilities", target, intensity), look)


def _seen(classifier: FERClassifier, made: Synthetics, target: Expression) -> np.ndarray:
    return np.asarray(recognised_in(classifier, made.faces, target) & made.made.numpy())


def recognised_in(classifier: FERClassifier, faces: Tensor, expression: Expression) -> np.ndarray:
    """Return, for each (3, S, S) uint8 face, whether the classifier sees an expression."""
    column = classifier.expressions.index(expression)
    return np.asarray((classified(classifier, faces).argmax(1) == column).numpy())


def real_recall(
    classifier: FERClassifier, real: FaceSet, target: Expression, bootstrap: Bootstrap
) -> tuple[np.ndarray, int]:
    """Return the rounds of the recall of real faces of a class, and their number."""
    at = real.of(target)
    return bootstrap.mean(recognised_in(classifier, real.faces[at], target), real.who(at)), len(at)
