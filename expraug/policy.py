"""Policies: which expression a source is turned into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from expraug.expressions import Expression

Probabilities = Mapping[Expression, float]


class Policy(Protocol):
    """Anything with this method can decide for the augmenter."""

    def probabilities(
        self, source: Expression | None, available: Sequence[Expression]
    ) -> Probabilities:
        """Return how likely each target is.

        Args:
            source: what the face shows; None if unknown.
            available: what the synthesizer can make of it, without `source` itself.

        Returns:
            Probability by target, over `available` only. What is missing to 1 leaves the face as
            it is.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """Every available target is as likely as any other."""

    targets: frozenset[Expression] | None = None
    """Only these targets; None allows all."""

    def __init__(self, targets: Iterable[Expression | str] | None = None) -> None:
        chosen = None if targets is None else frozenset(map(Expression.parse, targets))
        object.__setattr__(self, "targets", chosen)

    def probabilities(
        self, source: Expression | None, available: Sequence[Expression]
    ) -> Probabilities:
        chosen = [t for t in available if self.targets is None or t in self.targets]
        return {t: 1 / len(chosen) for t in chosen}


@dataclass(frozen=True)
class Balance:
    """Fills rare classes up: moves what frequent classes have too much of to the rare ones.

    A source of a class above the mean count is changed with just the probability that brings its
    class down to the mean; its target is drawn in proportion to what each class is short of. With
    p = 1 and every move available, all classes are seen equally often.

    Args:
        counts: number of training images by expression (name or `Expression`).
    """

    counts: Mapping[Expression, int]

    def __init__(self, counts: Mapping[Expression | str, int]) -> None:
        parsed = {Expression.parse(e): int(n) for e, n in counts.items()}
        if not parsed or min(parsed.values()) < 0 or sum(parsed.values()) == 0:
            raise ValueError(f"Balance needs counts >= 0, some of them > 0; got {dict(counts)}")
        object.__setattr__(self, "counts", parsed)

    def probabilities(
        self, source: Expression | None, available: Sequence[Expression]
    ) -> Probabilities:
        mean = sum(self.counts.values()) / len(self.counts)
        have = self.counts.get(source, 0) if source is not None else 0
        shortfall = {t: max(mean - self.counts[t], 0.0) for t in available if t in self.counts}
        total = sum(shortfall.values())
        if have <= mean or total == 0:
            return {}
        share = (have - mean) / have
        return {t: share * short / total for t, short in shortfall.items() if short > 0}


@dataclass(frozen=True)
class Matrix:
    """Target probabilities given for each source.

    Args:
        rows: for each source expression, probability by target; a row may sum to less than 1, the
            rest leaves the face as it is. Sources without a row are left alone.

    Raises:
        ValueError: a negative probability, or a row that sums to more than 1.
    """

    rows: Mapping[Expression, Probabilities]

    def __init__(self, rows: Mapping[Expression | str, Mapping[Expression | str, float]]) -> None:
        parsed = {
            Expression.parse(source): {Expression.parse(t): float(p) for t, p in row.items()}
            for source, row in rows.items()
        }
        for source, row in parsed.items():
            if min(row.values(), default=0) < 0 or sum(row.values()) > 1 + 1e-6:
                raise ValueError(
                    f"Matrix row {source}: probabilities must be >= 0, sum <= 1: {row}"
                )
        object.__setattr__(self, "rows", parsed)

    def probabilities(
        self, source: Expression | None, available: Sequence[Expression]
    ) -> Probabilities:
        row = self.rows.get(source, {}) if source is not None else {}
        return {t: p for t, p in row.items() if t in available}


def create_policy(spec: Policy | Mapping[str, Any] | None) -> Policy:
    """Return the policy that a JSON value stands for.

    Args:
        spec: a policy; None for `Uniform()`; or one of `{"uniform": [targets]}`,
            `{"balance": {expression: count}}`, `{"matrix": {source: {target: probability}}}`.

    Raises:
        ValueError: anything else.
    """
    if spec is None:
        return Uniform()
    if not isinstance(spec, Mapping):
        return spec
    kinds: dict[str, Callable[[Any], Policy]] = {
        "uniform": Uniform,
        "balance": Balance,
        "matrix": Matrix,
    }
    if len(spec) != 1 or next(iter(spec)) not in kinds:
        raise ValueError(f"a policy is one of {list(kinds)} with its argument, not {spec!r}")
    ((kind, argument),) = spec.items()
    return kinds[kind](argument)
