"""What is asked of one image, the bounded menu that it is sampled from, and what became of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from expraug.cache.dependencies import xxhash
from expraug.expressions import Expression


@dataclass(frozen=True, slots=True)
class SynthesisRequest:
    """What is asked of one image.

    Args:
        target: the expression, also by name.
        intensity: in [0.01, 1]; rounded to whole percent, so that the set of possible synthetics
            is finite and can be cached.
        variant: number of the variant, from 0.

    Raises:
        LabelError: no such expression.
        ValueError: intensity or variant out of range.
    """

    target: Expression
    intensity: float = 1.0
    variant: int = 0

    def __post_init__(self) -> None:
        percent = round(float(self.intensity) * 100)
        if not 1 <= percent <= 100:
            raise ValueError(f"intensity must be in [0.01, 1], not {self.intensity}")
        if self.variant < 0:
            raise ValueError(f"variant must be 0 or more, not {self.variant}")
        object.__setattr__(self, "target", Expression.parse(self.target))
        object.__setattr__(self, "intensity", percent / 100)

    @property
    def percent(self) -> int:
        """The intensity in whole percent, as cache keys and file names have it."""
        return round(self.intensity * 100)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image.

    Args:
        image: uint8 array or tensor, as the source; the very source where nothing was changed.
        target: the expression it shows now; None where nothing was changed.
        reason: why it was left alone ("not_asked", "no_face", "identity_lost", ...); else "".
        scores: gate scores by name.
        cached: whether it came from the cache.
    """

    image: Any
    target: Expression | None = None
    reason: str = "not_asked"
    scores: Mapping[str, float] = field(default_factory=dict)
    cached: bool = False


def sample_menu(
    digest: bytes,
    probabilities: Sequence[tuple[Expression, float]],
    percents: Sequence[int],
    variants: int,
    *,
    per_image: int,
    seed: int,
) -> tuple[SynthesisRequest | None, ...]:
    """Return the requests that one image offers, `per_image` of them, each as likely as any other.

    They follow from the arguments alone. Over many images the slots have the policy's
    probabilities; within one image they are spread over its targets as evenly as these allow, and
    no request comes twice while there are others of its target.

    Args:
        digest: of the image (`image_digest`).
        probabilities: of each target, summing to at most 1; what is missing to 1 are slots that
            leave the image as it is (None).
        percents: intensities in whole percent.
        variants: number of the synthesizer's variants.
        per_image: number of slots.
        seed: any integer.
    """
    key = xxhash.xxh3_128_intdigest(digest, seed=seed & (2**64 - 1))
    rng = random.Random(key)
    # systematic sampling: each slot is uniform by itself, and together they cover [0, 1) evenly
    start = rng.random()
    points = [(start + slot) / per_image for slot in range(per_image)]
    targets = [_at(point, probabilities) for point in points]
    rng.shuffle(targets)
    remaining: dict[Expression, list[int]] = {}
    menu: list[SynthesisRequest | None] = []
    for target in targets:
        if target is None:
            menu.append(None)
            continue
        if not remaining.get(target):
            count = len(percents) * variants
            remaining[target] = rng.sample(range(count), min(per_image, count))
        choice, variant = divmod(remaining[target].pop(), variants)
        menu.append(_request(target, percents[choice], variant))
    return tuple(menu)


@lru_cache(maxsize=4096)  # few differ, and making one costs more than all else here
def _request(target: Expression, percent: int, variant: int) -> SynthesisRequest:
    return SynthesisRequest(target, percent / 100, variant)


def _at(point: float, probabilities: Sequence[tuple[Expression, float]]) -> Expression | None:
    for target, probability in probabilities:
        point -= probability
        if point < 0:
            return target
    return None


def uniforms_from_digest(digest: bytes, seed: int, number: int = 0) -> tuple[float, float]:
    """Return two numbers in [0, 1) that follow from these arguments alone.

    Args:
        digest: of an image (`image_digest`).
        seed: any integer.
        number: of the epoch, or of the sample among several of one image.
    """
    mixed = xxhash.xxh3_128(digest, seed=seed & (2**64 - 1))
    mixed.update(number.to_bytes(8, "little", signed=True))
    first, second = np.frombuffer(mixed.digest()[:8], "<u4") / 2.0**32
    return float(first), float(second)
