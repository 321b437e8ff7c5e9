"""Front doors for training pipelines: one `RandomExpression` for each library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from expraug.expressions import Expression, LabelScheme
from expraug.policy import Policy, Uniform, create_policy


def policy_for(
    scheme: LabelScheme,
    targets: Sequence[Expression | str] | None,
    policy: Policy | Mapping[str, Any] | None,
) -> Policy:
    """Return the policy that a door's `targets` and `policy` arguments ask for.

    Without either, every expression that the data set has a class for is as likely as any other.

    Raises:
        LabelError: a target that is no expression, or that the scheme has no class for.
        ValueError: both are given, or no target at all.
    """
    if targets is not None and policy is not None:
        raise ValueError("give targets or a policy, not both")
    if policy is not None:
        return create_policy(policy)
    if targets is None:
        return Uniform(e for e in scheme.expressions.values() if e is not None)
    if not targets:
        raise ValueError("targets is empty; give None for all")
    for target in targets:
        scheme.index(Expression.parse(target))
    return Uniform(targets)


def uniforms_from_pixels(image: np.ndarray, seed: int, number: int = 0) -> np.ndarray:
    """Return three numbers in [0, 1) that follow from these arguments alone.

    Args:
        image: uint8 array.
        seed: any integer.
        number: of the epoch, or of the draw among several for one image.
    """
    import xxhash

    digest = xxhash.xxh3_128(np.ascontiguousarray(image).data, seed=seed & (2**64 - 1))
    digest.update(number.to_bytes(8, "little", signed=True))
    return np.frombuffer(digest.digest()[:12], "<u4") / 2.0**32
