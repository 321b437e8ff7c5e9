"""Looking after a cache: what is in it, whether it is whole, and making room.

These functions are the methods of `SynthesisCache` of the same names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from expraug.cache.dependencies import lmdb
from expraug.cache.encoding import decode
from expraug.cache.entry import SYNTHESIZER_BYTES, synthesizer_prefix
from expraug.cache.environment import DATA, FORMAT, CacheError, Databases, engine
from expraug.cache.eviction import add_stored_bytes, evict

if TYPE_CHECKING:
    from expraug.cache.store import SynthesisCache

_T = TypeVar("_T")
_CHUNK = 1000


@dataclass(frozen=True)
class FingerprintInfo:
    """Entries and bytes of values of one synthesizer; `name` is "" if it was not registered."""

    name: str
    entries: int
    bytes: int


@dataclass(frozen=True)
class CacheInfo:
    """State of a cache: `bytes` are those of its values, `file_bytes` what the folder takes."""

    format: int
    engine: str
    file_bytes: int
    fingerprints: dict[str, FingerprintInfo]  # by the first bytes of their keys, hexadecimal

    @property
    def entries(self) -> int:
        return sum(f.entries for f in self.fingerprints.values())

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.fingerprints.values())


@dataclass(frozen=True)
class VerifyReport:
    """Counts of whole, damaged and (with repair) deleted values."""

    good: int
    damaged: int
    deleted: int


def info(cache: SynthesisCache) -> CacheInfo:
    """Count entries and bytes, in all and by synthesizer; reads no values."""

    def count(txn: Any, databases: Databases) -> dict[str, FingerprintInfo]:
        entries: Counter[bytes] = Counter()
        sizes: Counter[bytes] = Counter()
        with txn.cursor(databases["values"]) as cursor:
            for key, value in cursor:
                prefix = bytes(key[:SYNTHESIZER_BYTES])
                entries[prefix] += 1
                sizes[prefix] += len(value)
        names = {p: bytes(txn.get(b"name" + p, b"", databases["meta"])) for p in entries}
        return {p.hex(): FingerprintInfo(names[p].decode(), entries[p], sizes[p]) for p in names}

    fingerprints = cache.environment.run(count, buffers=True)
    version = ".".join(map(str, lmdb.version(**engine())))
    size = (cache.path / DATA).stat().st_size
    return CacheInfo(int(FORMAT), f"LMDB {version}", size, fingerprints)


def verify(cache: SynthesisCache, *, repair: bool = False) -> VerifyReport:
    """Read and check every value; delete the damaged ones if `repair`."""
    run = partial(_change, cache) if repair else cache.environment.run
    good = damaged = 0
    start = b"\0"
    # In chunks, as a transaction that stays open keeps LMDB from using freed room.
    while start:
        start, new_good, new_damaged = run(partial(_check, start, repair))
        good += new_good
        damaged += new_damaged
    return VerifyReport(good, damaged, damaged if repair else 0)


def _check(start: bytes, repair: bool, txn: Any, databases: Databases) -> tuple[bytes, int, int]:
    good = damaged = freed = 0
    cursor = txn.cursor(databases["values"])
    more = cursor.set_range(start)
    while more and good + damaged < _CHUNK:
        key, value = cursor.item()
        whole = decode(key, value) is not None
        good += whole
        damaged += not whole
        if repair and not whole:
            freed += len(value)
            more = cursor.delete() and cursor.key()  # now at the next one
        else:
            more = cursor.next()
    if freed:
        add_stored_bytes(-freed, txn, databases)
    return cursor.key(), good, damaged


def prune(
    cache: SynthesisCache, *, max_bytes: int | None = None, fingerprint: str | None = None
) -> int:
    """Delete all entries of one synthesizer, then the oldest ones down to `max_bytes`.

    Returns:
        How many entries were deleted.
    """
    bodies = []
    if fingerprint is not None:
        bodies.append(partial(evict, -1, synthesizer_prefix(fingerprint)))
    if max_bytes is not None:
        bodies.append(partial(evict, max_bytes, b""))
    deleted = 0
    for body in bodies:
        while count := _change(cache, body):
            deleted += count
    return deleted


def _change(cache: SynthesisCache, body: Callable[[Any, Databases], _T]) -> _T:
    if cache.readonly:
        raise CacheError(f"{cache.path} was opened with readonly=True and cannot be changed")
    try:
        return cache.environment.run(body, write=True)
    except lmdb.Error as error:
        raise CacheError(f"{cache.path}: the cache cannot be changed ({error})") from error
