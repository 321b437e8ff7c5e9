"""Identity verification: is the synthetic still the same person, as real photographs are?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Estimate
from expraug.evaluate.context import Context
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.result import Line, Result
from expraug.expressions import Expression
from expraug.networks.identity import IdentityEncoder

NAME = "identity verification"
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
FALSE_ACCEPTS = 0.01
MIN_DIFFERENT = 100
_PAIRS_PER_PERSON = 20  # some people have hundreds of photographs; they would be the whole figure


@dataclass
class Identity(Result):
    """Cosines between embeddings, of the synthetics that were made.

    Args:
        encoder: that embedded the faces.
        threshold: cosine that 1 % of pairs of different people exceed.
        threshold_from: "data", or "encoder" where there are too few different people.
        cosine: by target, mean cosine of synthetics to their sources.
        verified: by target, share of those above the threshold.
        verified_all: the same of all targets.
        same, different: quantiles (at `QUANTILES`) of real pairs of one, and of two people.
        real_verified: share of real same-person pairs above the threshold; None without such pairs.
        different_pairs: how many pairs of two people there were.
    """

    encoder: str
    threshold: float
    threshold_from: str
    cosine: dict[str, Estimate]
    verified: dict[str, Estimate]
    verified_all: Estimate
    same: list[float]
    different: list[float]
    real_verified: Estimate | None
    different_pairs: int

    def caption(self) -> str:
        return f"identity {self.encoder}"

    def lines(self) -> list[Line]:
        lines = [
            Line("cosine to the source", t, str(e), n=str(e.n)) for t, e in self.cosine.items()
        ]
        for word, values in (("same person", self.same), ("different people", self.different)):
            if values:
                text = f"{values[3]:.3f} [{values[1]:.3f}, {values[5]:.3f}]"
                lines.append(Line("cosine, real pairs", word, text, "median and where 90 % lie"))
        for target, e in [*self.verified.items(), ("all", self.verified_all)]:
            lines.append(Line(NAME, target, str(e), n=str(e.n)))
        if (real := self.real_verified) is not None:
            lines.append(Line(NAME, "real", str(real), "photographs of one person", str(real.n)))
        where = f"1 % of {self.different_pairs:,} pairs of different people pass"
        if self.threshold_from == "encoder":
            where = "the encoder's own: too few different people here"
        lines.append(Line(NAME, "threshold", f"{self.threshold:.3f}", where))
        return lines


def measure(context: Context) -> Identity:
    """Measure all targets.

    Raises:
        MissingWeightsError, MissingDependencyError: there is no identity encoder.
        TooFewFacesError: nothing was made.
    """
    data, bootstrap, real = context.data, context.bootstrap, embeddings(context)
    bar, enough = threshold(context.encoder, data, real)
    different = cosines_of_pairs(real, different_pairs(data.people))
    alike = same_pairs(data.people)
    same = cosines_of_pairs(real, np.array(alike).reshape(-1, 2))
    everyone: list[str] = []
    passes: list[np.ndarray] = []
    verified: dict[str, Estimate] = {}

    def of(target: Expression) -> Estimate | None:
        made = context.synthetics(target).made.numpy()
        values = cosines(context, target)[made]
        people = data.who(context.synthetics(target).made_of)
        if not people:
            return None
        passes.append(values > bar)
        everyone.extend(people)
        verified[str(target)] = bootstrap.estimate(values > bar, people)
        return bootstrap.estimate(values, people)

    by_target = context.by_target(NAME, of)
    if not by_target:
        raise TooFewFacesError("no synthetic face was made")
    owners = [data.people[a] for a, _ in alike]
    return Identity(
        encoder=context.encoder.name,
        threshold=bar,
        threshold_from="data" if enough else "encoder",
        cosine=by_target,
        verified=verified,
        verified_all=bootstrap.estimate(np.concatenate(passes), everyone),
        same=np.quantile(same, QUANTILES).tolist() if len(same) else [],
        different=np.quantile(different, QUANTILES).tolist() if len(different) else [],
        real_verified=bootstrap.estimate(same > bar, owners) if len(same) else None,
        different_pairs=len(different),
    )


@torch.inference_mode()
def embed(encoder: IdentityEncoder, faces: Tensor, batch_size: int = 32) -> Tensor:
    """Return (N, D) unit vectors of (N, 3, S, S) uint8 faces."""
    return torch.cat([encoder(part.float() / 255) for part in faces.split(batch_size)])


def embeddings(context: Context) -> Tensor:
    """Return the (N, D) unit vectors of the data's faces."""
    encoder = context.encoder
    return context.once(("embeddings",), lambda: embed(encoder, context.data.faces))


def cosines(context: Context, target: Expression) -> np.ndarray:
    """Return the cosine of what became of each source to that source: (N,) float, 1 where nothing
    was made."""
    encoder, made = context.encoder, context.synthetics(target)

    def compare() -> np.ndarray:
        own = embed(encoder, made.faces)
        return np.asarray((own * embeddings(context)[made.sources]).sum(1).numpy())

    return context.once(("cosines", target), compare)


def threshold(encoder: IdentityEncoder, data: FaceSet, real: Tensor) -> tuple[float, bool]:
    """Return the cosine above which two faces are one person, and whether the data gave it.

    It is what 1 % of the data's pairs of different people exceed; the encoder's own where there
    are too few.

    Args:
        encoder: that embedded the faces.
        data: the faces.
        real: (N, D), their embeddings.
    """
    different = cosines_of_pairs(real, different_pairs(data.people))
    if len(different) < MIN_DIFFERENT:
        return float(encoder.threshold), False
    return float(np.quantile(different, 1 - FALSE_ACCEPTS)), True


def cosines_of_pairs(vectors: Tensor, pairs: np.ndarray) -> np.ndarray:
    """Return the inner products of (P, 2) pairs of (N, D) vectors: (P,) float."""
    return np.asarray((vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1).numpy())


def same_pairs(people: list[str]) -> list[tuple[int, int]]:
    """Return pairs of indices that belong to one person, at most 20 per person."""
    of: dict[str, list[int]] = defaultdict(list)
    for i, person in enumerate(people):
        of[person].append(i)
    pairs: list[tuple[int, int]] = []
    for indices in of.values():
        several = list(combinations(indices, 2))
        pairs += several[:: max(1, len(several) // _PAIRS_PER_PERSON)][:_PAIRS_PER_PERSON]
    return pairs


def different_pairs(people: list[str], most: int = 200_000, seed: int = 0) -> np.ndarray:
    """Return (P, 2) pairs of indices that belong to two people, drawn without order."""
    count = len(people)
    if count * (count - 1) // 2 <= most:
        first, second = np.triu_indices(count, 1)
    else:
        first, second = np.random.default_rng(seed).integers(0, count, (2, most))
    numbers = np.unique(people, return_inverse=True)[1]
    keep = numbers[first] != numbers[second]
    return np.stack([first[keep], second[keep]], axis=1)
