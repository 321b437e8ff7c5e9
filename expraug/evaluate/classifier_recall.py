"""Classifier recall, synthetic/real: do FER classifiers see the target as they do in real faces?

Two-sided: a synthetic that is recognised more often than real faces is exaggerated, and counts as a
miss like one that is recognised less often. A source of which nothing could be made counts as one
in which the target is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Bootstrap, Estimate, ratio
from expraug.evaluate.context import Context, Sources
from expraug.evaluate.distribution import Distribution
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.result import Headline, Line, Result
from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERClassifier

NAME = "classifier recall"
BASIC = tuple(Expression)[1:7]
"""Happy, sad, surprise, fear, disgust, angry."""
_RISE = 0.01
"""A mean probability that falls by less from one intensity to the next has not fallen."""
_SURE = 1e-4
"""Probabilities are kept this far from 0 and 1 before their log odds are taken."""


@dataclass(frozen=True)
class TargetRecall:
    """How well a classifier recognises one target expression.

    Args:
        sources: what the source faces show.
        synthetic: share of the sources of which a synthetic was made that the classifier takes for
            the target.
        real: share of the real faces of that class that it takes for it.
        real_from: the set of those real faces.
        ratio: synthetic / real; nan where the classifier recognises no real face.
        distance: Wasserstein distance between the log odds of the target in synthetics and in
            real faces, in standard deviations of the latter.
        shift: mean log odds of synthetics less that of real faces, in the same unit: above 0, the
            target is shown more clearly than real people show it.
        curve: mean probability of the target at each intensity, in what users get.
        rises: whether the curve falls at no step.
        other_sources, other_recall: what faces show that were no sources here but can be, and the
            recall of what is made of them.
    """

    sources: str
    synthetic: Estimate
    real: Estimate
    real_from: str
    ratio: Estimate
    distance: float
    shift: Estimate
    curve: list[float]
    rises: bool
    other_sources: str = ""
    other_recall: Estimate | None = None


@dataclass(frozen=True)
class OneClassifier:
    """What one classifier says.

    Args:
        targets: by target.
        mean: mean ratio over the basic expressions there are; n counts those.
        two_sided: mean over the same of the ratio, or of 1 / ratio where it exceeds 1; 1 is best.
    """

    targets: dict[str, TargetRecall]
    mean: Estimate | None
    two_sided: Estimate | None


@dataclass
class ClassifierRecall(Result):
    """Recalls by classifier's name (with the first digits of its weights' sha256) and target.

    Args:
        classifiers: by name.
        intensities: those of the curves.
        data: name of the set.
    """

    classifiers: dict[str, OneClassifier]
    intensities: tuple[float, ...]
    data: str

    def caption(self) -> str:
        return f"classifiers {', '.join(self.classifiers)}"

    def headline(self) -> Headline:
        found: Headline = {}
        for classifier, c in self.classifiers.items():
            name = short_name(classifier)
            if c.mean and c.two_sided:
                found[f"recall ratio, {name}", ""] = c.mean
                found[f"two-sided, {name}", ""] = c.two_sided
            for target, t in c.targets.items():
                found[f"recall ratio, {name}", target] = t.ratio
                found[f"log odds, {name}", target] = t.shift
        return found

    def lines(self) -> list[Line]:
        lines = []
        for classifier, found in self.classifiers.items():
            name = f"recall ratio, {short_name(classifier)}"
            for target, t in found.targets.items():
                where = "" if t.real_from == self.data else f" {t.real_from}"
                beside = f"{t.synthetic.value:.3f} synthetic, {t.real.value:.3f} of {t.real.n} real"
                lines.append(Line(name, target, str(t.ratio), beside + where, str(t.ratio.n)))
            if found.mean and found.two_sided:
                beside = f"two-sided {found.two_sided}, {found.mean.n} of 6 basic ones"
                lines.append(Line(name, "mean", str(found.mean), beside))
        for classifier, found in self.classifiers.items():
            name = f"log odds, {short_name(classifier)}"
            for target, t in found.targets.items():
                beside = f"mean beyond real faces, in their deviations; distance {t.distance:.2f}"
                lines.append(Line(name, target, str(t.shift), beside, str(t.shift.n)))
        for classifier, found in self.classifiers.items():
            name = f"probability, {short_name(classifier)}"
            for target, t in found.targets.items():
                curve = " ".join(f"{p:.2f}" for p in t.curve)
                word = "rises" if t.rises else "DOES NOT RISE"
                beside = f"{word}; intensity {', '.join(f'{i:g}' for i in self.intensities)}"
                lines.append(Line(name, target, curve, beside, str(t.synthetic.n)))
        for classifier, found in self.classifiers.items():
            name = f"recall, {short_name(classifier)}"
            for target, t in found.targets.items():
                if (e := t.other_recall) is not None:
                    beside = f"made of {t.other_sources}"
                    lines.append(Line(name, target, str(e), beside, str(e.n)))
        return lines


def short_name(classifier: str) -> str:
    """Return a classifier's name without the digest of its weights."""
    return classifier.rpartition("-")[0] or classifier


def measure(context: Context) -> ClassifierRecall:
    """Measure every target that a classifier knows, with every classifier."""
    found: dict[str, OneClassifier] = {}
    for classifier in context.classifiers:
        if context.stopped:
            break
        rounds: dict[Expression, np.ndarray] = {}

        def of(
            target: Expression,
            classifier: FERClassifier = classifier,
            rounds: dict[Expression, np.ndarray] = rounds,
        ) -> TargetRecall:
            recall, rounds[target] = measure_target(context, classifier, target)
            return recall

        targets = context.by_target(f"{NAME}, {short_name(classifier.name)}", of)
        basic = np.array([r for target, r in rounds.items() if target in BASIC])
        mean = two_sided = None
        if len(basic):
            mean = Estimate.of(basic.mean(0), len(basic))
            inverse = 1 / np.maximum(basic, _SURE)
            two_sided = Estimate.of(np.minimum(basic, inverse).mean(0), len(basic))
        found[classifier.name] = OneClassifier(targets, mean, two_sided)
    return ClassifierRecall(found, context.intensities, context.data.name)


def faces_to_make(context: Context) -> int:
    """Return how many faces are made for this measure alone."""
    steps = len([i for i in context.intensities if 0 < i < 1])
    return sum(
        steps * len(context.sources(t)) + len(context.other_sources(t)) for t in context.targets
    )


def measure_target(
    context: Context, classifier: FERClassifier, target: Expression
) -> tuple[TargetRecall, np.ndarray]:
    """Measure one target expression with one classifier.

    Returns:
        The recall, and the rounds of its ratio for the mean over targets.

    Raises:
        TooFewFacesError: the classifier does not know the target, or no real face shows it.
    """
    data, bootstrap = context.data, context.bootstrap
    if target not in classifier.expressions:
        raise TooFewFacesError(f"{classifier.name} does not know it")
    real_set = context.real(target)
    if not len(real_set.of(target)):
        raise TooFewFacesError("no real face shows it; give a reference set (--reference)")
    sources = context.sources(target)
    curve = [
        float(target_probabilities(context, target, intensity, classifier).mean())
        for intensity in context.intensities
    ]
    seen = recognised(context, target, classifier)
    recall = bootstrap.mean(seen, data.who(sources.indices))
    real, count = real_recall(classifier, real_set, target, bootstrap)
    quotient = ratio(recall, real)
    made = context.synthetics(target)
    at = real_set.of(target)
    own = log_odds(target_probabilities(context, target, 1.0, classifier))[made.made.numpy()]
    of_real = log_odds(_of_target(classifier, classified(classifier, real_set.faces[at]), target))
    name = f"log odds, {short_name(classifier.name)}"
    context.distributions.append(Distribution(name, target, own, of_real))
    unit = max(float(of_real.std()), 1e-6)
    shift = bootstrap.mean(own, data.who(made.made_of)) - bootstrap.mean(of_real, real_set.who(at))
    others = context.other_sources(target)
    other = None
    if len(others):
        seen_in_others = recognised(context, target, classifier, others)
        other = bootstrap.estimate(seen_in_others, data.who(others.indices))
    found = TargetRecall(
        sources=sources.shown,
        synthetic=Estimate.of(recall, len(seen)),
        real=Estimate.of(real, count),
        real_from=real_set.name,
        ratio=Estimate.of(quotient, len(seen)),
        distance=wasserstein(own, of_real) / unit,
        shift=Estimate.of(shift / unit, len(own)),
        curve=curve,
        rises=all(b > a - _RISE for a, b in pairwise(curve)) and curve[-1] > curve[0],
        other_sources=others.shown,
        other_recall=other,
    )
    return found, quotient


def wasserstein(first: np.ndarray, second: np.ndarray) -> float:
    """Return the 1-Wasserstein distance of two samples, (N,) and (M,): between their quantiles."""
    if not len(first) or not len(second):
        return float("nan")
    shares = (np.arange(500) + 0.5) / 500
    return float(np.abs(np.quantile(first, shares) - np.quantile(second, shares)).mean())


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of (N,) probabilities."""
    kept = np.clip(probabilities, _SURE, 1 - _SURE)
    odds: np.ndarray = np.log(kept / (1 - kept))
    return odds


def classified(classifier: FERClassifier, faces: Tensor, batch_size: int = 256) -> Tensor:
    """Return (N, E) probabilities of (N, 3, S, S) uint8 faces."""
    parts = [classifier.probabilities(part.float() / 255) for part in faces.split(batch_size)]
    return torch.cat(parts) if parts else torch.empty(0, len(classifier.expressions))


def target_probabilities(
    context: Context,
    target: Expression,
    intensity: float = 1.0,
    classifier: FERClassifier | None = None,
) -> np.ndarray:
    """Return the probability of a target in what became of each source: (N,) float.

    Args:
        classifier: one of the context's; None takes its first.
    """
    classifier = classifier or context.classifier
    found, _ = _probabilities(context, target, intensity)
    return _of_target(classifier, found[classifier.name], target)


def recognised(
    context: Context,
    target: Expression,
    classifier: FERClassifier | None = None,
    sources: Sources | None = None,
) -> np.ndarray:
    """Return, for each source, whether a classifier sees the target in what was made of it.

    Args:
        classifier: one of the context's; None takes its first.
        sources: None takes the target's.

    Returns:
        (N,) bool; False where nothing was made.
    """
    classifier = classifier or context.classifier
    column = classifier.expressions.index(target)
    found, made = _probabilities(context, target, 1.0, sources)
    return ((found[classifier.name].argmax(1) == column) & made).numpy()


def _of_target(classifier: FERClassifier, found: Tensor, target: Expression) -> np.ndarray:
    return np.asarray(found[:, classifier.expressions.index(target)].numpy())


def _probabilities(
    context: Context, target: Expression, intensity: float, sources: Sources | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return what each classifier says of what became of each source, (N, E) by its name, and
    whether something was made, (N,) bool.

    Most faces are not kept, so all classifiers look at them at once.
    """

    def classify() -> tuple[dict[str, Tensor], Tensor]:
        indices = None if sources is None else sources.indices
        keep = intensity == 1 and sources is None
        made = context.synthetics(target, intensity, indices, keep=keep)
        return {c.name: classified(c, made.faces) for c in context.classifiers}, made.made

    shown = "" if sources is None else sources.shown
    return context.once(("probabilities", target, intensity, shown), classify)


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
