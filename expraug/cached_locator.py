"""Keeping in the cache where faces are, and in which images there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expraug.cache import CacheEntry, SynthesisCache, entry_key, image_digest
from expraug.faces.locate import Location, Locator


class CachedLocator:
    """A locator that looks only for faces of which the cache does not know.

    Args:
        locator: looks for the faces.
        cache: keeps what it finds, under the locator's fingerprint.
    """

    def __init__(self, locator: Locator, cache: SynthesisCache) -> None:
        self.locator, self.cache = locator, cache
        self.fingerprint, self.constant = locator.fingerprint, locator.constant
        self.landmarks = getattr(locator, "landmarks", False)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Location | None]:
        keys = [entry_key(image_digest(image), self.fingerprint) for image in images]
        found = [self.cache.get(key) for key in keys]
        missing = [i for i, entry in enumerate(found) if entry is None]
        new = self.locator([images[i] for i in missing]) if missing else []
        locations = [None if entry is None else _location(entry) for entry in found]
        for i, location in zip(missing, new, strict=True):
            locations[i] = location
        if missing and not self.cache.readonly:
            self.cache.put_many((keys[i], _entry(locations[i])) for i in missing)
        return locations


def _location(entry: CacheEntry) -> Location | None:
    if entry.points is None:
        return None
    return Location.unpack(entry.points, int(entry.scores["faces"]))


def _entry(location: Location | None) -> CacheEntry:
    if location is None:
        return CacheEntry(None, reason="no_face")
    return CacheEntry(None, scores={"faces": float(location.faces)}, points=location.pack())
