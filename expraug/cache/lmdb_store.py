"""Values in one LMDB file: fast, and one writer at a time; for local disks.

Three databases: `values` by key; `order`, the keys by number of insertion; and `meta`, the format
of the cache, the sum of all bytes and the names of synthesizers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from expraug.cache.dependencies import lmdb
from expraug.cache.entry import SYNTHESIZER_BYTES
from expraug.cache.lmdb_environment import DATA, FORMAT, Databases, engine, environment_of
from expraug.cache.store import IsWhole, Size, StoreError, StoreKind, Usage

AT_ONCE = 10_000
"""Entries that one transaction deletes at most, as other writers wait meanwhile."""
CHECKED_AT_ONCE = 1_000
"""Entries that one transaction checks: while it is open, LMDB cannot use freed room."""

_T = TypeVar("_T")


class LmdbStore:
    """A `Store` in a folder with `data.mdb` and `lock.mdb`."""

    kind: StoreKind = "lmdb"
    format = int(FORMAT)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = environment_of(str(path))

    @staticmethod
    def is_at(path: Path) -> bool:
        return (path / DATA).is_file()

    @property
    def engine(self) -> str:
        return "LMDB " + ".".join(map(str, lmdb.version(**engine())))

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._run(lambda txn, dbs: txn.get(key, db=dbs["values"]))
        return value

    def put_many(self, items: Sequence[tuple[bytes, bytes]], max_bytes: int | None) -> int:
        def store(txn: Any, databases: Databases) -> int:
            _insert(items, txn, databases)
            return (
                0 if max_bytes is None else _delete_oldest(max_bytes, b"", AT_ONCE, txn, databases)
            )

        try:
            self.environment.reserve(sum(len(key) + len(value) for key, value in items))
        except OSError as error:
            raise StoreError(str(error)) from error
        return self._run(store, write=True)

    def knows(self, prefix: bytes) -> bool:
        def found(txn: Any, databases: Databases) -> bool:
            cursor = txn.cursor(databases["values"])
            return bool(cursor.set_range(prefix) and cursor.key().startswith(prefix))

        return self._run(found)

    def size(self) -> Size:
        return self._run(
            lambda txn, dbs: Size(txn.stat(dbs["values"])["entries"], _stored_bytes(txn, dbs))
        )

    def set_name(self, prefix: bytes, name: str) -> None:
        key, value = b"name" + prefix, name.encode()
        self._run(lambda txn, dbs: txn.put(key, value, db=dbs["meta"], overwrite=False), write=True)

    def names(self) -> dict[bytes, str]:
        def read(txn: Any, databases: Databases) -> dict[bytes, str]:
            items = txn.cursor(databases["meta"])
            return {k[4:]: v.decode() for k, v in items if k.startswith(b"name")}

        return self._run(read)

    def usage(self) -> Usage:
        def count(txn: Any, databases: Databases) -> dict[bytes, Size]:
            entries: Counter[bytes] = Counter()
            sizes: Counter[bytes] = Counter()
            with txn.cursor(databases["values"]) as cursor:
                for key, value in cursor:
                    prefix = bytes(key[:SYNTHESIZER_BYTES])
                    entries[prefix] += 1
                    sizes[prefix] += len(value)
            return {prefix: Size(entries[prefix], sizes[prefix]) for prefix in entries}

        by_synthesizer = self._run(count, buffers=True)
        return Usage(by_synthesizer, (self.path / DATA).stat().st_size)

    def check(self, is_whole: IsWhole, *, repair: bool) -> tuple[int, int]:
        good = damaged = 0
        start = b"\0"
        while start:
            body = partial(_check, start, is_whole, repair)
            start, new_good, new_damaged = self._run(body, write=repair)
            good += new_good
            damaged += new_damaged
        return good, damaged

    def delete(self, prefix: bytes) -> int:
        return self._delete_all(-1, prefix)

    def evict(self, max_bytes: int) -> int:
        return self._delete_all(max_bytes, b"")

    def close(self) -> None:
        self.environment.close()

    def _delete_all(self, limit: int, prefix: bytes) -> int:
        deleted, at_once = 0, AT_ONCE
        while True:
            body = partial(_delete_oldest, limit, prefix, at_once)
            try:
                count = self._run(body, write=True)
            except StoreError:
                if at_once == 1:
                    raise
                at_once //= 10  # on a full disk: what few deletions need was kept back
                continue
            if not count:
                return deleted
            deleted += count

    def _run(
        self, body: Callable[[Any, Databases], _T], *, write: bool = False, buffers: bool = False
    ) -> _T:
        try:
            return self.environment.run(body, write=write, buffers=buffers)
        except (lmdb.Error, SystemError) as error:  # the latter of a damaged page
            raise StoreError(str(error)) from error


def _stored_bytes(txn: Any, databases: Databases) -> int:
    """Return the bytes of all values."""
    return int.from_bytes(txn.get(b"bytes", b"", databases["meta"]), "big")


def _add_stored_bytes(change: int, txn: Any, databases: Databases) -> None:
    """Enter a change of the bytes of all values."""
    total = max(_stored_bytes(txn, databases) + change, 0)
    txn.put(b"bytes", total.to_bytes(8, "big"), db=databases["meta"])


def _insert(items: Sequence[tuple[bytes, bytes]], txn: Any, databases: Databases) -> None:
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
    _add_stored_bytes(change, txn, databases)


def _delete_oldest(limit: int, prefix: bytes, at_once: int, txn: Any, databases: Databases) -> int:
    """Delete the oldest entries whose keys have the prefix, while the bytes of all values exceed
    the limit, up to a number of them; return how many.
    """
    excess = _stored_bytes(txn, databases) - limit
    deleted = freed = 0
    oldest = txn.cursor(databases["order"])
    more = oldest.first()
    while more and freed < excess and deleted < at_once:
        if oldest.value().startswith(prefix):
            value = txn.pop(oldest.value(), databases["values"])
            if value is not None:  # else deleted before, as damaged
                freed += len(value)
                deleted += 1
            more = oldest.delete() and oldest.key()  # now at the next one
        else:
            more = oldest.next()
    _add_stored_bytes(-freed, txn, databases)
    return deleted


def _check(
    start: bytes, is_whole: IsWhole, repair: bool, txn: Any, databases: Databases
) -> tuple[bytes, int, int]:
    good = damaged = freed = 0
    cursor = txn.cursor(databases["values"])
    more = cursor.set_range(start)
    while more and good + damaged < CHECKED_AT_ONCE:
        key, value = cursor.item()
        whole = is_whole(key, value)
        good += whole
        damaged += not whole
        if repair and not whole:
            freed += len(value)
            more = cursor.delete() and cursor.key()  # now at the next one
        else:
            more = cursor.next()
    if freed:
        _add_stored_bytes(-freed, txn, databases)
    return cursor.key(), good, damaged
