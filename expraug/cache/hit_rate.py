"""Notices a cache that cannot help, since the images asked for were never seen before.

A look-up can hit only if the same pixels were looked up before. If a random transform runs first,
none do: every epoch is synthesized anew and the cache only grows.
"""

from __future__ import annotations

from expraug.cache.entry import IMAGE_BYTES
from expraug.cache.store import Store, StoreError

CHECK_EVERY = 1_000
LOW_SHARE = 0.05


class HitRateWatch:
    """Counts look-ups, and those for images that had any entry of the same synthesizer.

    Another target would do: known images may meet new targets for many epochs. It is time to warn
    when fewer than 5 % are such, and the look-ups, with the entries that were there at the first
    of another kind, exceed `warn_after`. A first pass over more images than that looks the same.
    """

    def __init__(self) -> None:
        self._lookups = self._familiar = 0
        self._entries_at_start = 0

    def sees_no_use(self, key: bytes, hit: bool, store: Store, warn_after: int) -> bool:
        """Take note of a look-up; return whether it is time to warn."""
        familiar = hit
        if not hit:
            try:
                familiar = store.knows(key[:IMAGE_BYTES])
                if self._lookups == self._familiar:
                    self._entries_at_start = store.size().entries
            except StoreError:
                return False
        self._familiar += familiar
        self._lookups += 1
        return (
            self._lookups % CHECK_EVERY == 0
            and self._lookups + self._entries_at_start > warn_after
            and self._familiar < LOW_SHARE * self._lookups
        )
