"""Insertions and their order, the sum of all bytes, and what makes way: the oldest entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from expraug.cache.environment import Databases

AT_ONCE = 10_000
"""Entries that one transaction evicts at most, as other writers wait meanwhile."""


def stored_bytes(txn: Any, databases: Databases) -> int:
    """Return the bytes of all values."""
    return int.from_bytes(txn.get(b"bytes", b"", databases["meta"]), "big")


def add_stored_bytes(change: int, txn: Any, databases: Databases) -> None:
    """Enter a change of the bytes of all values."""
    total = max(stored_bytes(txn, databases) + change, 0)
    txn.put(b"bytes", total.to_bytes(8, "big"), db=databases["meta"])


def insert(items: Iterable[tuple[bytes, bytes]], txn: Any, databases: Databases) -> None:
    """Store values; one that replaces another keeps its age."""
    values, newest = txn.cursor(databases["values"]), txn.cursor(databases["order"])
    number = int.from_bytes(newest.key(), "big") + 1 if newest.last() else 0
    change = 0
    for key, value in items:
        if values.set_key(key):
            change -= len(values.value())
        else:
            newest.put(number.to_bytes(8, "big"), key, append=True)
            number += 1
        values.put(key, value)
        change += len(value)
    add_stored_bytes(change, txn, databases)


def evict(limit: int, prefix: bytes, txn: Any, databases: Databases) -> int:
    """Delete the oldest entries whose keys have the prefix, while the bytes of all values exceed
    the limit; return how many.
    """
    excess = stored_bytes(txn, databases) - limit
    evicted = freed = 0
    oldest = txn.cursor(databases["order"])
    more = oldest.first()
    while more and freed < excess and evicted < AT_ONCE:
        if oldest.value().startswith(prefix):
            value = txn.pop(oldest.value(), databases["values"])
            if value is not None:  # else deleted before, as damaged
                freed += len(value)
                evicted += 1
            more = oldest.delete() and oldest.key()  # now at the next one
        else:
            more = oldest.next()
    add_stored_bytes(-freed, txn, databases)
    return evicted
