"""Fréchet distance: how near synthetics are to real faces of the target class, as distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Estimate
from expraug.evaluate.context import Context
from expraug.evaluate.face_set import TooFewFacesError
from expraug.evaluate.result import Line, Result
from expraug.expressions import Expression

NAME = "Fréchet distance"
Features = Callable[[Tensor], Tensor]
"""Maps (N, 3, S, S) uint8 faces to (N, D) float features."""
MIN_FACES = 10
_ROUNDS = 60


@dataclass(frozen=True)
class TargetDistance:
    """Fréchet distances to real faces of a target class.

    Args:
        synthetic: of the synthetics.
        sources: of the unchanged sources.
        real: number of real faces.
        real_from: their set.
    """

    synthetic: Estimate
    sources: Estimate
    real: int
    real_from: str


@dataclass
class Frechet(Result):
    """Distances by target.

    Args:
        features: that were compared, by name.
        targets: by target.
        data: name of the set.
    """

    features: str
    targets: dict[str, TargetDistance]
    data: str

    def caption(self) -> str:
        return f"Fréchet on {self.features}" if self.targets else ""

    def lines(self) -> list[Line]:
        lines = []
        for target, t in self.targets.items():
            where = "" if t.real_from == self.data else f" {t.real_from}"
            beside = f"copying {t.sources}, to {t.real} real{where}"
            lines.append(Line(NAME, target, str(t.synthetic), beside, str(t.synthetic.n)))
        return lines


def measure(context: Context) -> Frechet:
    """Measure every target with enough faces, on Inception's features if they load."""
    inception = inception_features()
    if inception is not None:
        name, features = "Inception (FID), 2048", inception
    else:
        name, features = f"last hidden layer of {context.classifier.name}", _of_classifier(context)
    targets = context.by_target(NAME, lambda t: measure_target(context, features, t))
    return Frechet(name, targets, context.data.name)


def measure_target(context: Context, features: Features, target: Expression) -> TargetDistance:
    """Compare synthetics, and their unchanged sources, with real faces of the target class.

    Raises:
        TooFewFacesError: fewer than 10 synthetics or real faces.
    """
    data, real, made = context.data, context.real(target), context.synthetics(target)
    at, sources = real.of(target), made.made_of
    if min(len(at), len(sources)) < MIN_FACES:
        raise TooFewFacesError(
            f"fewer than {MIN_FACES} faces: {len(at)} real, {len(sources)} synthetic"
        )
    goal, who, people = _rows(features, real.faces[at]), real.who(at), data.who(sources)
    own = frechet_estimate(_rows(features, made.made_faces), goal, people, who)
    plain = frechet_estimate(_rows(features, data.faces[sources]), goal, people, who)
    return TargetDistance(own, plain, len(at), real.name)


def shrunk_covariance(features: np.ndarray) -> np.ndarray:
    """Return the covariance of (N, D) features, shrunk towards a multiple of the identity.

    Oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero 2010): with fewer faces than
    features the plain covariance is singular and the distance noise; with many, nothing changes.
    """
    n, d = features.shape
    covariance = np.atleast_2d(np.cov(features, rowvar=False, bias=True))
    trace, square = np.trace(covariance), np.sum(covariance**2)
    below = (n + 1 - 2 / d) * (square - trace**2 / d)
    above = (1 - 2 / d) * square + trace**2
    share = 1.0 if below <= 0 else min(1.0, above / below)
    return np.asarray((1 - share) * covariance + share * trace / d * np.eye(d))


def gaussian_distance(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray
) -> float:
    """Return the squared Fréchet distance between two Gaussians (Dowson & Landau 1982).

    Args:
        mean_a, mean_b: (D,).
        cov_a, cov_b: (D, D), symmetric and positive semi-definite.
    """
    # tr (A B)^½ = tr (A^½ B A^½)^½, which is symmetric: no complex square root is needed
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    gap = float(np.sum((mean_a - mean_b) ** 2))
    return max(0.0, gap + float(np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance (Heusel et al. 2017) between (N, D) and (M, D) features."""
    return gaussian_distance(a.mean(0), shrunk_covariance(a), b.mean(0), shrunk_covariance(b))


def frechet_estimate(
    a: np.ndarray, b: np.ndarray, people_a: list[str], people_b: list[str], seed: int = 0
) -> Estimate:
    """Return the distance and its interval over people.

    Repeated faces make each round's distance too large, so the interval takes its width from the
    rounds' standard deviation and its middle from the distance itself.
    """
    rng = np.random.default_rng(seed)
    value = frechet_distance(a, b)
    rounds = [
        frechet_distance(a[_redrawn(people_a, rng)], b[_redrawn(people_b, rng)])
        for _ in range(_ROUNDS)
    ]
    half = 1.96 * float(np.std(rounds))
    return Estimate(value, max(0.0, value - half), value + half, len(a))


def _rows(features: Features, faces: Tensor) -> np.ndarray:
    return np.asarray(features(faces).double().cpu().numpy())


def _redrawn(people: list[str], rng: np.random.Generator) -> np.ndarray:
    numbers = np.unique(people, return_inverse=True)[1]
    count = numbers.max() + 1
    times = rng.multinomial(count, np.full(count, 1 / count))
    return np.repeat(np.arange(len(people)), times[numbers])


def _of_classifier(context: Context) -> Features:
    classifier = context.classifier

    def extract(faces: Tensor) -> Tensor:
        return torch.cat([classifier.features(p.float() / 255) for p in faces.split(256)])

    return extract


def inception_features() -> Features | None:
    """Return the 2048 features of FID's Inception, or None where its weights cannot be had."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-not-found]
            FeatureExtractorInceptionV3,
        )

        network = FeatureExtractorInceptionV3("fid", ["2048"])
    except Exception:  # not installed, or no network and no weights: another net does its work
        return None

    def extract(faces: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([network(part)[0] for part in faces.split(32)])

    return extract
