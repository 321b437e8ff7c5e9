"""Identity kept: is the synthetic still the same person, as photographs of one person are?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.face_set import FaceSet
from expraug.expressions import Expression
from expraug.networks.identity import IdentityEncoder

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
FALSE_ACCEPTS = 0.01
MIN_DIFFERENT = 100
_PAIRS_A_PERSON = 20  # some people have hundreds of photographs; they would be the whole figure


@dataclass(frozen=True)
class Identity:
    """Cosines between embeddings.

    Args:
        encoder: that embedded the faces.
        threshold: cosine that 1 % of pairs of different people exceed.
        threshold_from: "data", or "encoder" where there are too few different people.
        kept: by target, mean cosine of synthetics to their sources.
        verified: by target, share of those above the threshold.
        verified_all: the same of all targets.
        same, different: quantiles (at `QUANTILES`) of real pairs of one, and of two people.
        real_verified: share of real same-person pairs above the threshold; None without such pairs.
        different_pairs: how many pairs of two people there were.
        cosine: by target, of each synthetic to its source, in the order of the sources.
    """

    encoder: str
    threshold: float
    threshold_from: str
    kept: dict[str, Estimate]
    verified: dict[str, Estimate]
    verified_all: Estimate
    same: list[float]
    different: list[float]
    real_verified: Estimate | None
    different_pairs: int
    cosine: dict[str, list[float]]


@torch.inference_mode()
def embed(encoder: IdentityEncoder, faces: Tensor, batch_size: int = 32) -> Tensor:
    """Return (N, D) unit vectors of (N, 3, S, S) uint8 faces."""
    return torch.cat([encoder(part.float() / 255) for part in faces.split(batch_size)])


def same_pairs(people: list[str]) -> list[tuple[int, int]]:
    """Return pairs of indices that belong to one person, at most 20 a person."""
    of: dict[str, list[int]] = defaultdict(list)
    for i, person in enumerate(people):
        of[person].append(i)
    pairs: list[tuple[int, int]] = []
    for indices in of.values():
        several = list(combinations(indices, 2))
        pairs += several[:: max(1, len(several) // _PAIRS_A_PERSON)][:_PAIRS_A_PERSON]
    return pairs


def different_pairs(people: list[str], most: int = 200_000, seed: int = 0) -> np.ndarray:
    """Return (P, 2) pairs of indices that belong to two people, drawn without order."""
    count = len(people)
    if count * (count - 1) // 2 <= most:
        first, second = np.triu_indices(count, 1)
    else:
        first, second = np.random.default_rng(seed).integers(0, count, (2, most))
    codes = np.unique(people, return_inverse=True)[1]
    keep = codes[first] != codes[second]
    return np.stack([first[keep], second[keep]], axis=1)


def measure_identity(
    encoder: IdentityEncoder,
    data: FaceSet,
    made: Mapping[Expression, tuple[Tensor, Tensor]],
    bootstrap: Bootstrap,
) -> Identity:
    """Measure all targets.

    Args:
        made: by target, the indices of the sources and the synthetics, (N, 3, S, S) uint8.
    """
    real = embed(encoder, data.faces)
    pairs = different_pairs(data.people)
    different = (real[pairs[:, 0]] * real[pairs[:, 1]]).sum(1).numpy()
    enough = len(different) >= MIN_DIFFERENT
    threshold = float(np.quantile(different, 1 - FALSE_ACCEPTS)) if enough else encoder.threshold
    alike = same_pairs(data.people)
    same = np.array([float(real[a] @ real[b]) for a, b in alike])
    kept, verified = {}, {}
    cosines: dict[str, list[float]] = {}
    everyone: list[str] = []
    passes: list[np.ndarray] = []
    for target, (indices, faces) in made.items():
        cosine = (embed(encoder, faces) * real[indices]).sum(1).numpy()
        people = data.who(indices)
        cosines[str(target)] = cosine.tolist()
        kept[str(target)] = bootstrap.estimate(cosine, people)
        verified[str(target)] = bootstrap.estimate(cosine > threshold, people)
        passes.append(cosine > threshold)
        everyone += people
    owners = [data.people[a] for a, _ in alike]
    return Identity(
        encoder=encoder.name,
        threshold=threshold,
        threshold_from="data" if enough else "encoder",
        kept=kept,
        verified=verified,
        verified_all=bootstrap.estimate(np.concatenate(passes), everyone),
        same=np.quantile(same, QUANTILES).tolist() if len(same) else [],
        different=np.quantile(different, QUANTILES).tolist() if len(different) else [],
        real_verified=bootstrap.estimate(same > threshold, owners) if len(same) else None,
        different_pairs=len(different),
        cosine=cosines,
    )
