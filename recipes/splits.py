"""Which half of the training faces lends expressions, and which trains the classifier."""

from __future__ import annotations

import numpy as np
import xxhash

LENDING, CLASSIFYING = 0, 1
SEED = 7
LENDING_SLOTS = 33
"""Of the slots 0 to 64 that `person_split` gives to train people, the first so many lend."""


def half_of_rows(total: int) -> np.ndarray:
    """Return the half of each row, (total,), of a set that names nobody."""
    return np.random.default_rng(SEED).permutation(total) % 2


def half_of_person(identity: str) -> int:
    """Return the half that a train person belongs to, by the hash that also splits people."""
    return int(xxhash.xxh64_intdigest(identity.encode()) % 100 >= LENDING_SLOTS)
