"""Bootstrap intervals over people (Efron 1979): photographs of one person are not independent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash


@dataclass(frozen=True)
class Estimate:
    """A figure with its bootstrap 95 % interval.

    Args:
        value: the figure on all people; nan where it cannot be had.
        low, high: bounds of the interval; nan where there is none.
        n: number of images, or of pairs, behind it.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, rounds: np.ndarray, n: int) -> Estimate:
        """Read an estimate off what `Bootstrap` returns: the figure itself, then the rounds."""
        drawn = rounds[1:][np.isfinite(rounds[1:])]
        low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (math.nan, math.nan)
        return cls(float(rounds[0]), float(low), float(high), n)

    @classmethod
    def mean(cls, estimates: Iterable[Estimate]) -> Estimate:
        """Return the mean of the values that there are, without an interval; n counts them."""
        values = [e.value for e in estimates if math.isfinite(e.value)]
        mean = sum(values) / len(values) if values else math.nan
        return cls(mean, math.nan, math.nan, len(values))

    @classmethod
    def over_seeds(cls, rounds: Sequence[np.ndarray], n: int) -> Estimate:
        """Read an estimate off the rounds of several seeds: the mean figure; the interval spans
        people and seeds."""
        value = np.mean([each[0] for each in rounds])
        return cls.of(np.concatenate([[value], *(each[1:] for each in rounds)]), n)

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "–"
        if not math.isfinite(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Bootstrap:
    """Draws people with replacement, once, so that figures can be combined round by round.

    Args:
        people: everyone in the evaluation; repeats do not matter.
        rounds: number of draws.
        seed: of the draws.
    """

    def __init__(self, people: Sequence[str], rounds: int = 1000, seed: int = 0) -> None:
        names = sorted(set(people))
        self._index = {name: i for i, name in enumerate(names)}
        count = max(len(names), 1)
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), rounds)
        # the first row is everyone once: the figure itself
        self._weights = np.concatenate([np.ones((1, count)), drawn]).astype(np.float32)

    def mean(self, values: np.ndarray, people: Sequence[str]) -> np.ndarray:
        """Return the mean on everyone, then on the people of each round: (1 + rounds,) float.

        Args:
            values: (N,) figures or booleans, one an image.
            people: the N people they belong to. A round that draws none of them gives nan.
        """
        place = self._places(people)
        size = self._weights.shape[1]
        sums = np.bincount(place, np.asarray(values, float), size)
        counts = np.bincount(place, minlength=size).astype(float)
        weights = self._weights.astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ sums) / (weights @ counts))

    def weights(self, people: Sequence[str]) -> np.ndarray:
        """Return how often everyone is drawn, once, then in each round: (1 + rounds, N) float.

        Args:
            people: the N people that images belong to.
        """
        return self._weights[:, self._places(people)].astype(float)

    def _places(self, people: Sequence[str]) -> np.ndarray:
        return np.array([self._index[p] for p in people], int)

    def estimate(self, values: np.ndarray, people: Sequence[str]) -> Estimate:
        """Return the mean with its interval."""
        return Estimate.of(self.mean(values, people), len(values))


def split_by_person(people: Sequence[str]) -> np.ndarray:
    """Return which half of the people each of N images shows: (N,) int, 0 or 1.

    Whoever has most images goes first, each to the half that has fewer.
    """
    counts = Counter(people)
    sizes = [0, 0]
    half: dict[str, int] = {}
    order = sorted(counts, key=lambda p: (-counts[p], xxhash.xxh32_intdigest(p.encode())))
    for person in order:
        half[person] = int(sizes[1] < sizes[0])
        sizes[half[person]] += counts[person]
    return np.array([half[person] for person in people], int)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, round by round; nan where below is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient = above / below
    return np.where(np.isfinite(quotient), quotient, np.nan)
