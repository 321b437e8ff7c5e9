"""Doors for training pipelines: one `RandomExpression` for each library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expraug.expressions import Expression, LabelScheme
from expraug.pipeline import ExpressionAugmenter
from expraug.policy import Policy, Uniform, create_policy

AUGMENTER_DEFAULTS: dict[str, Any] = {
    "synthesizer": "auto",
    "targets": None,
    "policy": None,
    "intensity": (0.6, 1.0),
    "alignment": "crop",
    "gate": None,
    "check_landmarks": True,
    "cache": None,
    "on_miss": "synthesize",
    "per_image": 4,
    "device": "cpu",
}
"""What doors take for an augmenter, in this order, and what they make it with if not told."""


def augmenter_for(
    augmenter: ExpressionAugmenter | None, scheme: LabelScheme | None, **given: Any
) -> ExpressionAugmenter:
    """Return the augmenter that a door works with: a ready one, or one made from its arguments.

    Args:
        augmenter: a ready one.
        scheme: what the labels mean, if that is known already.
        given: the arguments of `AUGMENTER_DEFAULTS`.

    Raises:
        LabelError: a target that is no expression, or that the scheme has no class for.
        UnsupportedExpressionError: a target that the synthesizer cannot make.
        ValueError: an augmenter together with arguments for one, targets together with a policy,
            or an argument out of range.
    """
    given = AUGMENTER_DEFAULTS | given
    if augmenter is not None:
        also = [name for name, v in given.items() if not _is_default(name, v)]
        if also:
            raise ValueError(f"an augmenter brings its own {', '.join(also)}; give one of the two")
        return augmenter
    targets, policy = given.pop("targets"), given.pop("policy")
    chosen = policy_for(scheme, targets, policy)
    made = ExpressionAugmenter(given.pop("synthesizer"), policy=chosen, **given)
    made.require([Expression.parse(target) for target in targets or ()])
    return made


def _is_default(name: str, value: Any) -> bool:
    default = AUGMENTER_DEFAULTS[name]
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(value) == default
    return bool(value is default or (type(value) is type(default) and value == default))


def policy_for(
    scheme: LabelScheme | None,
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
        return Uniform()
    if isinstance(targets, str):
        raise ValueError(f"targets must be a list, as [{targets!r}], not {targets!r}")
    if not targets:
        raise ValueError("targets is empty; give None for all")
    for target in targets:
        expression = Expression.parse(target)
        if scheme is not None:
            scheme.index(expression)
    return Uniform(targets)
