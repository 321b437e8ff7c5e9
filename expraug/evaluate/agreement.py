"""Expression agreement: does a classifier see in the synthetics what it sees in real faces?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Bootstrap, Estimate, ratio
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.synthesis import Maker, other_sources
from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERClassifier

INTENSITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
MIN_REAL = 10
"""Fewer real faces of a class say too little about the classifier: the reference set speaks instead."""


@dataclass(frozen=True)
class Agreement:
    """How well the classifier recognises one target expression.

    Args:
        sources: what the source faces show.
        recall: share of synthetics in which the classifier sees the target.
        real: the same of real faces of that class.
        real_from: the set of those real faces.
        ratio: recall / real; nan where the classifier recognises no real face.
        curve: mean probability of the target at each of `INTENSITIES`.
        rises: whether the curve rises at every step.
        probability: of the target in each synthetic at full intensity, in the order of the sources.
        seen: whether the classifier sees the target in it, likewise.
        other_sources, other_recall: recall on faces that show another accepted expression.
        reference_recall: of real faces of the class in the reference set, where the ratio is not
            to them already: judges do worse, or better, on other sets.
    """

    sources: str
    recall: Estimate
    real: Estimate
    real_from: str
    ratio: Estimate
    curve: list[float]
    rises: bool
    probability: list[float]
    seen: list[bool]
    other_sources: str = ""
    other_recall: Estimate | None = None
    reference_recall: Estimate | None = None


def classified(classifier: FERClassifier, faces: Tensor, batch_size: int = 256) -> Tensor:
    """Return (N, E) probabilities of (N, 3, S, S) uint8 faces."""
    parts = [classifier.probabilities(part.float() / 255) for part in faces.split(batch_size)]
    return torch.cat(parts) if parts else torch.empty(0, len(classifier.expressions))


def recognised(classifier: FERClassifier, faces: Tensor, expression: Expression) -> np.ndarray:
    """Return, for each face, whether the classifier sees the expression: (N,) bool."""
    column = classifier.expressions.index(expression)
    return (classified(classifier, faces).argmax(1) == column).numpy()


def real_faces(data: FaceSet, reference: FaceSet | None, target: Expression) -> FaceSet:
    """Return the set whose real faces of a class others are compared with."""
    if reference is None or len(data.of(target)) >= MIN_REAL or not len(reference.of(target)):
        return data
    return reference


def measure_agreement(
    classifier: FERClassifier,
    maker: Maker,
    data: FaceSet,
    reference: FaceSet | None,
    target: Expression,
    indices: Tensor,
    sources: str,
    full: Tensor,
    bootstrap: Bootstrap,
) -> tuple[Agreement, np.ndarray]:
    """Measure one target expression.

    Args:
        indices, sources: the faces it is made of, and what they show.
        full: (N, 3, S, S) uint8, those faces at intensity 1.

    Returns:
        The agreement, and the rounds of its ratio for the mean over targets.

    Raises:
        TooFewFacesError: the classifier does not know the target, or no real face shows it.
    """
    if target not in classifier.expressions:
        raise TooFewFacesError(f"{classifier.name} does not know it")
    if not len(real_faces(data, reference, target).of(target)):
        raise TooFewFacesError("no real face shows it; give a reference set")
    column = classifier.expressions.index(target)
    people = data.who(indices)
    at_full = classified(classifier, full)
    steps = [
        classified(classifier, maker(data.faces[indices], target, i)) for i in INTENSITIES[:-1]
    ]
    curve = [float(p[:, column].mean()) for p in [*steps, at_full]]
    hits = (at_full.argmax(1) == column).numpy()
    recall = bootstrap.mean(hits, people)

    real_set = real_faces(data, reference, target)
    real, count = _real_recall(classifier, real_set, target, bootstrap)
    quotient = ratio(recall, real)
    elsewhere = None
    if reference is not None and reference is not real_set and len(reference.of(target)):
        elsewhere = Estimate.of(*_real_recall(classifier, reference, target, bootstrap))

    others, shown = other_sources(data, maker.synthesizer, target)
    other = None
    if len(others):
        seen = recognised(classifier, maker(data.faces[others], target), target)
        other = bootstrap.estimate(seen, data.who(others))
    agreement = Agreement(
        sources=sources,
        recall=Estimate.of(recall, len(hits)),
        real=Estimate.of(real, count),
        real_from=real_set.name,
        ratio=Estimate.of(quotient, len(hits)),
        curve=curve,
        rises=all(a < b for a, b in pairwise(curve)),
        probability=at_full[:, column].tolist(),
        seen=hits.tolist(),
        other_sources=shown,
        other_recall=other,
        reference_recall=elsewhere,
    )
    return agreement, quotient


def _real_recall(
    classifier: FERClassifier, real: FaceSet, target: Expression, bootstrap: Bootstrap
) -> tuple[np.ndarray, int]:
    """Return the rounds of the recall of real faces of a class, and their number."""
    at = real.of(target)
    return bootstrap.mean(recognised(classifier, real.faces[at], target), real.who(at)), len(at)
