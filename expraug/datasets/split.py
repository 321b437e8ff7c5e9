"""Splitting by person: no one is in two splits."""

from __future__ import annotations

from typing import Literal

import xxhash

Split = Literal["train", "validation", "test"]


def person_split(identity: str, *, validation: int = 10, test: int = 25) -> Split:
    """Return the split that a person belongs to, from a hash of the name alone.

    The same person lands in the same split in every set, process and release, also when others
    join or leave.

    Args:
        identity: the person's name or number in the set.
        validation, test: per cent of people in these splits; the rest trains.
    """
    slot = xxhash.xxh64_intdigest(identity.encode()) % 100
    if slot >= 100 - test:
        return "test"
    return "validation" if slot >= 100 - test - validation else "train"
