"""What is asked for one face, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from expraug.expressions import Expression


@dataclass(frozen=True, slots=True)
class Draw:
    """What is asked for one face.

    Args:
        target: the expression.
        level: intensity in whole percent, 1 to 100; quantised, so that the set of possible
            synthetics is finite and can be cached.
        variant: number of the variant, from 0.
    """

    target: Expression
    level: int = 100
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one face.

    Args:
        image: uint8, shape as the source; the very source array where nothing was changed.
        target: the expression it shows now; None where nothing was changed.
        reason: why it was left alone ("not_drawn", "no_face", "identity_lost", ...); else "".
        scores: gate scores by name.
        cached: whether it came from the cache.
    """

    image: np.ndarray
    target: Expression | None = None
    reason: str = "not_drawn"
    scores: Mapping[str, float] = field(default_factory=dict)
    cached: bool = False
