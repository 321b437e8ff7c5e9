"""What the runs of a table differ in: what is drawn on top of the real faces of each batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

REAL, OWN = "real", "own"
"""Sources of extra samples besides the synthesizers' names: the real faces of the rare classes, and
those rendered to the expression that they have."""
NATURAL, NEUTRAL, STRONG = ", natural", ", neutral", ", neutral, strong"
CLEAREST = ", clearest"
"""Only synthetics that pass `gate="natural"`; only those of them whose source shows nothing; and of
these only those at full intensity, or the third of each class that the gate's classifier sees most
clearly."""

BALANCED = ", balance 0.5"
"""What a condition is called in which real faces are drawn in proportion to the root of a class."""

OTHERS = ("pixel", "unet_cgan", "emotiongan", "decoupled", "fevgan")
"""The published systems."""


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    Args:
        share: of the steps.
        real, extra: samples per batch, as shares of the batch size: 1 real and 6/64 extra, say.
    """

    share: float
    real: float
    extra: float


@dataclass(frozen=True)
class Condition:
    """How a run uses extra samples, all of the rare classes, as many of each.

    Args:
        name: in the table.
        extra: `REAL`, `OWN`, or a synthesizer; "" for none.
        phases: one after the other; a batch always has the same number of real faces, so extra
            samples come on top.
        strength: of the augmentation of the extra samples.
        weight: of the extra samples in the loss.
        split_norm: whether they have batch normalisation of their own (Xie et al. 2020).
        only: "" for all synthetics of the synthesizer; else `NATURAL`, `NEUTRAL` and so on.
        soft: share of a synthetic's label that stays with the expression of its source.
        balance: of the real draws, as `Recipe.balance`; None for what is tuned.
    """

    name: str
    extra: str = ""
    phases: tuple[Phase, ...] = (Phase(1.0, 1.0, 0.0),)
    strength: float = 1.0
    weight: float = 1.0
    split_norm: bool = False
    only: str = ""
    soft: float = 0.0
    balance: float | None = None

    @property
    def synthetic(self) -> bool:
        """Whether a synthesizer had a part in it; the own-label control does not count."""
        return self.extra not in ("", REAL, OWN)


def on_top(share: float) -> tuple[Phase, ...]:
    """Return one phase with so many extra samples per real one."""
    return (Phase(1.0, 1.0, share),)


ONE, THREE, SIX, TWELVE, MANY = (on_top(n / 64) for n in (1, 3, 6, 12, 24))
FALLING = (Phase(0.4, 1.0, 12 / 64), Phase(0.3, 1.0, 6 / 64), Phase(0.3, 1.0, 0.0))
FIRST = (Phase(0.25, 0.5, 0.5), Phase(0.75, 1.0, 0.0))
"""A quarter of the steps on batches of which half is extra, then real faces alone."""

_TRANSFER = Condition("transfer 6/64", "transfer", SIX)
_NEUTRAL = Condition("transfer 12/64, neutral", "transfer", TWELVE, only=NEUTRAL)
NONE = Condition("none")
CONDITIONS = {
    condition.name: condition
    for condition in (
        NONE,
        Condition("even draws", balance=0.0),
        Condition("more draws 6/64", REAL, SIX),
        Condition("altered copies 6/64", REAL, SIX, strength=1.6),
        Condition("own label 6/64", OWN, SIX),
        _TRANSFER,
        Condition("more draws 12/64", REAL, TWELVE),
        Condition("own label 12/64", OWN, TWELVE),
        Condition("more draws 24/64", REAL, MANY),
        replace(_TRANSFER, name="transfer 12/64", phases=TWELVE),
        replace(_TRANSFER, name="transfer falling", phases=FALLING),
        Condition("more draws falling", REAL, FALLING),
        replace(_TRANSFER, name="transfer 12/64, split norm", phases=TWELVE, split_norm=True),
        replace(_TRANSFER, name="transfer 12/64, weight 0.5", phases=TWELVE, weight=0.5),
        replace(_TRANSFER, name="transfer 6/64, neutral", only=NEUTRAL),
        replace(_TRANSFER, name="transfer 12/64, natural", phases=TWELVE, only=NATURAL),
        _NEUTRAL,
        replace(_NEUTRAL, name="transfer 24/64, neutral", phases=MANY),
        replace(_NEUTRAL, name=f"{_NEUTRAL.name}, split norm", split_norm=True),
        replace(_NEUTRAL, name=f"{_NEUTRAL.name}, soft labels", soft=0.3),
        replace(_NEUTRAL, name=f"{_NEUTRAL.name}, strong", only=STRONG),
        replace(_NEUTRAL, name="transfer 6/64, neutral, weight 0.5", phases=SIX, weight=0.5),
        Condition("transfer 6/64, clearest", "transfer", SIX, only=CLEAREST),
        Condition("transfer 3/64, clearest", "transfer", THREE, only=CLEAREST),
        Condition("transfer 1/64, clearest", "transfer", ONE, only=CLEAREST),
        Condition("own label 3/64", OWN, THREE),
        Condition("more draws 3/64", REAL, THREE),
        replace(_NEUTRAL, name=f"{_NEUTRAL.name}, falling", phases=FALLING),
        replace(_NEUTRAL, name=f"{_NEUTRAL.name}, first", phases=FIRST),
        replace(_TRANSFER, name="transfer first", phases=FIRST),
        Condition("more draws first", REAL, FIRST),
        *(Condition(f"{name} 6/64, neutral", name, SIX, only=NEUTRAL) for name in OTHERS),
    )
}
CONDITIONS |= {
    name + BALANCED: replace(CONDITIONS[name], name=name + BALANCED, balance=0.5)
    for name in (
        *("none", "more draws 3/64", "own label 3/64", "transfer 6/64, neutral"),
        *("transfer 3/64, clearest", "transfer 1/64, clearest", "transfer 12/64, neutral, first"),
    )
}
