"""Faces to put into a cache, and short ways to put, find and count them."""

import numpy as np
from numpy.random import default_rng  # here: an import in a thread holds a lock that forks copy

from expraug.cache import CacheEntry, entry_key, image_digest


def key_of(number, fingerprint="pixel"):
    return entry_key(image_digest(np.array([[number // 256, number % 256]], np.uint8)), fingerprint)


def pattern(number, side=24):
    return default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def fill(cache, numbers, side=24):
    return cache.put_many((key_of(n), CacheEntry(pattern(n, side))) for n in numbers)


def holds(cache, number, side=24):
    entry = cache.get(key_of(number))
    return entry is not None and np.array_equal(entry.patch, pattern(number, side))


def kept(cache, numbers):
    return [n for n in numbers if cache.backend.get(key_of(n)) is not None]


def overwrite_raw(cache, key, value):
    cache.backend.put_many([(key, value)], None)


def sizes_agree(cache):
    """Whether the accounts say what a count finds."""
    return cache.backend.size() == (cache.info().entries, cache.info().bytes)


def run_lmdb(cache, body, write=False):
    return cache.backend.environment.run(body, write=write)


def same(left, right):
    return (
        np.array_equal(left.patch, right.patch)
        and (left.patch is None) == (right.patch is None)
        and np.array_equal(left.points, right.points, equal_nan=right.points is not None)
        and tuple(left.origin) == tuple(right.origin)
        and dict(left.scores) == dict(right.scores)
        and left.reason == right.reason
    )
