"""How many synthetic faces are made, of which classes and of which sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from expraug.expressions import Expression


@dataclass(frozen=True)
class Quota:
    """Limits on what is made. Faces that fail or are rejected are not made up for.

    Args:
        balance: fill each class up to the size of the largest class of the source set, and no
            further; classes that the source set does not have are filled only if their expression
            is among the targets that were asked for.
        per_class: synthetic faces of each class at most.
        max_per_source: synthetic faces of each source at most.

    Raises:
        ValueError: a limit under 1.
    """

    balance: bool = False
    per_class: int | None = None
    max_per_source: int | None = None

    def __post_init__(self) -> None:
        for name in ("per_class", "max_per_source"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")

    def __bool__(self) -> bool:
        return self != Quota()

    def limits(
        self,
        sources: Sequence[Expression | None],
        targets: Sequence[Expression],
        *,
        fixed: bool,
    ) -> dict[Expression, float]:
        """Return how many synthetic faces each target gets at most.

        Args:
            sources: expression of each source.
            targets: what is made.
            fixed: the targets were asked for by name.
        """
        limits = dict.fromkeys(targets, float("inf" if self.per_class is None else self.per_class))
        if self.balance:
            there = Counter(e for e in sources if e is not None)
            largest = max(there.values(), default=0)
            for target in targets:
                wanted = largest - there[target] if fixed or there[target] else 0
                limits[target] = min(limits[target], wanted)
        return limits


def choose(
    sources: Sequence[Expression | None],
    origins: Sequence[str],
    makes: Mapping[Expression, Sequence[Expression]],
    limits: Mapping[Expression, float],
    repeats: int,
    max_per_source: int | None,
    seed: int,
) -> np.ndarray:
    """Choose what is made: spread over as many sources as can be, in an order given by hashes.

    Args:
        sources: expression of each source.
        origins: name of each source.
        makes: targets that are made of each expression.
        limits: by target, how many are made.
        repeats: how many faces of one target can be made of a source: intensities times variants.
        max_per_source: how many are made of one source; None: no limit.
        seed: another one gives another choice.

    Returns:
        (sources, requests) bool: request `k` of a source is its target `k // repeats`, repeat
        `k % repeats`.
    """
    width = max((len(targets) for targets in makes.values()), default=0) * repeats
    chosen = np.zeros((len(sources), width), bool)
    hashes = np.array(
        [xxhash.xxh64_intdigest(o.encode("utf-8", "replace"), abs(seed) % 2**64) for o in origins],
        np.uint64,
    )
    columns: list[tuple[np.ndarray, ...]] = []
    for expression, targets in makes.items():
        rows = np.array([i for i, e in enumerate(sources) if e == expression], np.int64)
        for t, target in enumerate(targets):
            requests = np.arange(t * repeats, (t + 1) * repeats)
            keys = _mixed(hashes[rows, None], int(target) * repeats + np.arange(repeats))
            # the first request of every source comes before the second of any
            rounds = keys.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            shape = keys.shape
            columns.append(
                (
                    rounds.ravel(),
                    keys.ravel(),
                    np.broadcast_to(rows[:, None], shape).ravel(),
                    np.broadcast_to(requests, shape).ravel(),
                    np.full(keys.size, int(target)),
                )
            )
    if not columns:
        return chosen
    rounds, keys, rows, requests, codes = (np.concatenate(c) for c in zip(*columns, strict=True))
    order = np.lexsort((requests, rows, keys, rounds))
    left = {int(target): limit for target, limit in limits.items()}
    room = np.full(len(sources), width if max_per_source is None else max_per_source)
    for i in order.tolist():
        row, code = rows[i], codes[i]
        if left[int(code)] > 0 and room[row] > 0:
            chosen[row, requests[i]] = True
            left[int(code)] -= 1
            room[row] -= 1
    return chosen


def _mixed(hashes: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """Return other hashes for each salt, by the finaliser of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = hashes + (salt.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
