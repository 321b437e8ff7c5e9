"""Identity verification: is the synthetic still the same person, as real photographs are?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Estimate
from expraug.evaluate.context import STOPPED, Context
from expraug.evaluate.distribution import Distribution
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.result import Headline, Line, Result, headline_of
from expraug.expressions import Expression
from expraug.networks.identity import IdentityEncoder

NAME = "identity verification"
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
FALSE_ACCEPTS = 0.01
MIN_DIFFERENT = 100
_PAIRS_PER_PERSON = 20  # some people have hundreds of photographs; they would be the whole figure


@dataclass
class Verification:
    """Cosines between the embeddings of one encoder, of the synthetics that were made.

    Args:
        threshold: cosine that 1 % of pairs of different people exceed.
        threshold_from: "data", or "encoder" where there are too few different people.
        cosine: by target, mean cosine of synthetics to their sources.
        verified: by target, share of those above the threshold.
        verified_all: the same of all targets.
        same, different: quantiles (at `QUANTILES`) of real pairs of one, and of two people.
        real_verified: share of real same-person pairs above the threshold; None without such pairs.
        different_pairs: how many pairs of two people there were.
    """

    threshold: float
    threshold_from: str
    cosine: dict[str, Estimate]
    verified: dict[str, Estimate]
    verified_all: Estimate
    same: list[float]
    different: list[float]
    real_verified: Estimate | None
    different_pairs: int

    def lines(self, encoder: str) -> list[Line]:
        """Return the figures as lines of the table, under the name of the encoder."""
        name, cosine = f"{NAME}, {encoder}", f"cosine to the source, {encoder}"
        lines = [Line(cosine, t, str(e), n=str(e.n)) for t, e in self.cosine.items()]
        for word, values in (("same person", self.same), ("different people", self.different)):
            if values:
                text = f"{values[3]:.3f} [{values[1]:.3f}, {values[5]:.3f}]"
                beside = "median and where 90 % lie"
                lines.append(Line(f"cosine, real pairs, {encoder}", word, text, beside))
        for target, e in [*self.verified.items(), ("all", self.verified_all)]:
            lines.append(Line(name, target, str(e), n=str(e.n)))
        if (real := self.real_verified) is not None:
            lines.append(Line(name, "real", str(real), "photographs of one person", str(real.n)))
        where = f"1 % of {self.different_pairs:,} pairs of different people pass"
        if self.threshold_from == "encoder":
            where = "the encoder's own: too few different people here"
        lines.append(Line(name, "threshold", f"{self.threshold:.3f}", where))
        return lines


@dataclass
class Identity(Result):
    """What each identity encoder says.

    Args:
        encoders: by name of the encoder, the first one's first. One that the synthesizer was
            trained with flatters it; another, which it has not seen, says how much.
    """

    encoders: dict[str, Verification]

    def caption(self) -> str:
        return f"identity {' and '.join(self.encoders)}"

    def headline(self) -> Headline:
        found: Headline = {}
        for encoder, v in self.encoders.items():
            found[f"same person, {encoder}", ""] = v.verified_all
            found |= headline_of(f"cosine, {encoder}", v.cosine)
        return found

    def lines(self) -> list[Line]:
        return [line for name, found in self.encoders.items() for line in found.lines(name)]


def measure(context: Context) -> Identity:
    """Measure all targets with each identity encoder.

    Raises:
        MissingWeightsError, MissingDependencyError: there is no identity encoder.
        TooFewFacesError: nothing was made.
    """
    found = {}
    for encoder in context.encoders:
        if context.stopped:
            context.skipped[f"{NAME}, {encoder.name}"] = STOPPED
            continue
        found[encoder.name] = verification(context, encoder)
    return Identity(found)


def verification(context: Context, encoder: IdentityEncoder) -> Verification:
    """Measure all targets with one encoder; raises TooFewFacesError if nothing was made."""
    data, bootstrap, real = context.data, context.bootstrap, embeddings(context, encoder)
    bar, enough = threshold(encoder, data, real)
    different = cosines_of_pairs(real, different_pairs(data.people))
    alike = same_pairs(data.people)
    same = cosines_of_pairs(real, np.array(alike).reshape(-1, 2))
    everyone: list[str] = []
    passes: list[np.ndarray] = []
    verified: dict[str, Estimate] = {}

    def of(target: Expression) -> Estimate | None:
        made = context.synthetics(target).made.numpy()
        values = cosines(context, target, encoder)[made]
        people = data.who(context.synthetics(target).made_of)
        if not people:
            return None
        passes.append(values > bar)
        name = f"cosine, {encoder.name}"
        context.distributions.append(Distribution(name, target, values, np.empty(0)))
        everyone.extend(people)
        verified[str(target)] = bootstrap.estimate(values > bar, people)
        return bootstrap.estimate(values, people)

    by_target = context.by_target(f"{NAME}, {encoder.name}", of)
    if not by_target:
        raise TooFewFacesError("no synthetic face was made")
    owners = [data.people[a] for a, _ in alike]
    return Verification(
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


def embeddings(context: Context, encoder: IdentityEncoder | None = None) -> Tensor:
    """Return the (N, D) unit vectors of the data's faces; the first encoder's if none is given."""
    encoder = encoder or context.encoder
    return context.once(("embeddings", encoder.name), lambda: embed(encoder, context.data.faces))


def cosines(
    context: Context, target: Expression, encoder: IdentityEncoder | None = None
) -> np.ndarray:
    """Return the cosine of what became of each source to that source: (N,) float, 1 where nothing
    was made; by the first encoder if none is given."""
    encoder, made = encoder or context.encoder, context.synthetics(target)

    def compare() -> np.ndarray:
        own = embed(encoder, made.faces)
        return np.asarray((own * embeddings(context, encoder)[made.sources]).sum(1).numpy())

    return context.once(("cosines", target, encoder.name), compare)


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
