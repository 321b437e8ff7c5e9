"""How much of what was made lies outside the range of what is real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expraug.evaluate.bootstrap import Bootstrap, Estimate

LOW, HIGH = 0.05, 0.95
"""Quantiles of real values that bound their range: of real faces, 5 % are below and 5 % above."""


@dataclass(frozen=True)
class Outside:
    """Where made values lie against real ones.

    Args:
        below: share under the 5th percentile of the real values; 0.05 is as real.
        above: share over their 95th; 0.05 is as real.
        median: of the made values.
        real_median: of the real ones.
        real: number of real values.
    """

    below: Estimate
    above: Estimate
    median: float
    real_median: float
    real: int


def outside(
    made: np.ndarray,
    people: Sequence[str],
    real: np.ndarray,
    real_people: Sequence[str],
    bootstrap: Bootstrap,
) -> Outside:
    """Compare made values with real ones; the intervals know that both are samples.

    Args:
        made: (M,) values, or (M, J), J equally likely values of each.
        people: the M people that they belong to.
        real: (N,) values.
        real_people: the N people that they belong to.
        bootstrap: over all of these people.
    """
    made = np.sort(made.reshape(len(people), -1), axis=1)
    order = np.argsort(real)
    weights = bootstrap.weights([real_people[i] for i in order])
    bounds = np.array([_quantiles(real[order], w) for w in weights])
    drawn = bootstrap.weights(people)
    width = made.shape[1]
    under = np.stack([np.searchsorted(row, bounds[:, 0], "left") for row in made], 1) / width
    over = 1 - np.stack([np.searchsorted(row, bounds[:, 1], "right") for row in made], 1) / width
    with np.errstate(invalid="ignore"):
        below, above = ((drawn * share).sum(1) / drawn.sum(1) for share in (under, over))
    missing = np.isnan(bounds[:, 0])  # a round that draws nobody with a real value
    below[missing] = above[missing] = np.nan
    return Outside(
        Estimate.of(below, len(made)),
        Estimate.of(above, len(made)),
        float(np.median(made)),
        float(np.median(real)),
        len(real),
    )


def _quantiles(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the two bounds of sorted values: each stands in the middle of its share."""
    total = weights.sum()
    if total == 0:
        return np.full(2, np.nan)
    there = weights > 0
    weights = weights[there]
    places = (np.cumsum(weights) - weights / 2) / total
    return np.asarray(np.interp((LOW, HIGH), places, values[there]))
