"""What the data set doors have in common: their modes, and sampling several requests of a menu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from expraug.pipeline import ExpressionAugmenter, SynthesisRequest

Mode = Literal["add", "replace"]
"""Whether synthetic faces come beside the real ones, or in their place."""


def check_mode(mode: Mode, copies: int, p: float | None, augmenter: ExpressionAugmenter) -> float:
    """Return the probability that a door works with: its caller's, or 1 to add, 0.5 to replace.

    Raises:
        ValueError: an unknown mode, a probability outside [0, 1], more copies than an image offers
            requests, or several in place of one.
    """
    if mode not in ("add", "replace"):
        raise ValueError(f"mode must be 'add' or 'replace', not {mode!r}")
    if copies < 1 or (mode == "replace" and copies != 1):
        raise ValueError(f"copies must be at least 1, and 1 with 'replace', not {copies}")
    if copies > augmenter.per_image:
        raise ValueError(
            f"copies={copies}, but each image offers {augmenter.per_image} synthetic faces: make "
            f"the augmenter with per_image={copies}"
        )
    if p is None:
        return 1.0 if mode == "add" else 0.5
    if not 0 <= p <= 1:
        raise ValueError(f"p must be between 0 and 1, not {p}")
    return p


def sample_copies(
    menu: Sequence[SynthesisRequest | None], uniforms: Sequence[tuple[float, float]], p: float
) -> list[SynthesisRequest]:
    """Return requests of a menu, all different, at most one for each pair of uniforms.

    Each copy is any slot of the menu with equal chance, as a transform samples it, but no slot
    serves two copies, and what is taken already is passed over.

    Args:
        menu: `ExpressionAugmenter.menu`.
        uniforms: for each copy (u0, u1) in [0, 1): u0 < p makes it; the first u1 picks a slot.
        p: probability of each copy.
    """
    start = int(uniforms[0][1] * len(menu))
    slots = [*menu[start:], *menu[:start]]
    chances = iter(uniforms)
    taken: list[SynthesisRequest] = []
    passed: set[SynthesisRequest] = set()
    for slot in slots:
        if slot in passed:
            continue
        chance = next(chances, None)
        if chance is None:
            break
        if slot is not None:
            passed.add(slot)
            taken += [slot] * (chance[0] < p)
    return taken
