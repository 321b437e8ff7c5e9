"""Fidelity: how near synthetics are to real faces, one by one and as a distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.errors import ExpraugError, MissingDependencyError
from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.expressions import Expression

Features = Callable[[Tensor], Tensor]
"""Maps (N, 3, S, S) uint8 faces to (N, D) float features."""

MIN_FRECHET = 10
MIN_COPY_SSIM = 0.5
"""Studio pairs reach about 0.7 and photographs from the press about 0.35, whatever is done."""
_ROUNDS = 60


@dataclass(frozen=True)
class Paired:
    """Synthetics against real photographs of the same people with the target expression.

    Args:
        ssim, psnr: means, of structural similarity (Wang et al. 2004) and in dB.
        copy_ssim, copy_psnr: the same of the unchanged sources.
        ssim_gain, psnr_gain: mean differences.
    """

    ssim: Estimate
    psnr: Estimate
    copy_ssim: Estimate
    copy_psnr: Estimate
    ssim_gain: Estimate
    psnr_gain: Estimate


@dataclass(frozen=True)
class Frechet:
    """Fréchet distances to real faces of the target class.

    Args:
        features: that were compared, by name.
        made: of the synthetics.
        sources: of the unchanged sources.
        real: number of real faces.
        real_from: their set.
    """

    features: str
    made: Estimate
    sources: Estimate
    real: int
    real_from: str


class UnlikePhotographsError(ExpraugError, ValueError):
    """Photographs of one person that are no pairs: more than the expression differs."""

    reason = "unlike_photographs"


def measure_pairs(
    data: FaceSet, target: Expression, indices: Tensor, made: Tensor, bootstrap: Bootstrap
) -> Paired | None:
    """Compare with the first real target of each person who has one; None if nobody has.

    Args:
        indices, made: the sources, and the synthetics made of them, (N, 3, S, S) uint8.

    Raises:
        MissingDependencyError: torchmetrics is not installed.
        UnlikePhotographsError: the photographs of one person differ in more than the expression.
    """
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as error:
        raise MissingDependencyError(
            "SSIM needs torchmetrics: pip install 'expraug[train]'"
        ) from error
    real = {data.people[i]: i for i in reversed(data.of(target).tolist())}
    first = {data.people[i]: k for k, i in reversed(list(enumerate(indices.tolist())))}
    people = sorted(real.keys() & first.keys())
    if not people:
        return None
    places = [first[p] for p in people]
    goal = data.faces[[real[p] for p in people]].float() / 255

    def compare(faces: Tensor) -> tuple[np.ndarray, np.ndarray]:
        faces = faces.float() / 255
        # one by one: SSIM's windows would need gigabytes for many faces at once
        parts = [
            structural_similarity_index_measure(a[None], b[None], data_range=1.0)
            for a, b in zip(faces, goal, strict=True)
        ]
        psnr = -10 * torch.log10((faces - goal).square().mean((1, 2, 3)).clamp(min=1e-10))
        return torch.stack([torch.as_tensor(p) for p in parts]).numpy(), psnr.numpy()

    own, copy = compare(made[places]), compare(data.faces[indices[places]])
    if copy[0].mean() < MIN_COPY_SSIM:
        raise UnlikePhotographsError(
            f"copying the source reaches a mean SSIM of {copy[0].mean():.2f} on {len(people)} "
            f"people: their photographs differ in pose and light, not only in expression"
        )
    return Paired(
        *(bootstrap.estimate(values, people) for values in (*own, *copy)),
        *(bootstrap.estimate(a - b, people) for a, b in zip(own, copy, strict=True)),
    )


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
    return (1 - share) * covariance + share * trace / d * np.eye(d)


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


def measure_frechet(
    name: str,
    features: Features,
    real: FaceSet,
    target: Expression,
    data: FaceSet,
    indices: Tensor,
    made: Tensor,
) -> Frechet:
    """Compare synthetics, and their unchanged sources, with real faces of the target class.

    Args:
        name, features: what is compared.
        real: the set of the real faces.
        indices, made: the sources in `data`, and the synthetics, (N, 3, S, S) uint8.

    Raises:
        TooFewFacesError: fewer than 10 synthetics or real faces.
    """
    at = real.of(target)
    if min(len(at), len(indices)) < MIN_FRECHET:
        raise TooFewFacesError(f"fewer than {MIN_FRECHET} faces: {len(at)} real, {len(indices)}")
    goal, who, people = _rows(features, real.faces[at]), real.who(at), data.who(indices)
    own = frechet_estimate(_rows(features, made), goal, people, who)
    plain = frechet_estimate(_rows(features, data.faces[indices]), goal, people, who)
    return Frechet(name, own, plain, len(at), real.name)


def _rows(features: Features, faces: Tensor) -> np.ndarray:
    return features(faces).double().cpu().numpy()


def _redrawn(people: list[str], rng: np.random.Generator) -> np.ndarray:
    codes = np.unique(people, return_inverse=True)[1]
    times = rng.multinomial(codes.max() + 1, np.full(codes.max() + 1, 1 / (codes.max() + 1)))
    return np.repeat(np.arange(len(people)), times[codes])


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
