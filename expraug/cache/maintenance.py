"""Looking after a cache: what is in it, whether it is whole, and making room.

These functions are the methods of `SynthesisCache` of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expraug.cache.encoding import decode
from expraug.cache.entry import synthesizer_prefix
from expraug.cache.store import CacheError, StoreError, StoreKind

if TYPE_CHECKING:
    from expraug.cache.synthesis_cache import SynthesisCache


@dataclass(frozen=True)
class FingerprintInfo:
    """Entries and bytes of values of one synthesizer; `name` is "" if it was not registered."""

    name: str
    entries: int
    bytes: int


@dataclass(frozen=True)
class CacheInfo:
    """State of a cache: `bytes` are those of its values, `file_bytes` what the folder takes."""

    store: StoreKind
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
    with _explained(cache):
        names, usage = cache.backend.names(), cache.backend.usage()
    fingerprints = {
        prefix.hex(): FingerprintInfo(names.get(prefix, ""), size.entries, size.bytes)
        for prefix, size in sorted(usage.by_synthesizer.items())
    }
    backend = cache.backend
    return CacheInfo(backend.kind, backend.format, backend.engine, usage.file_bytes, fingerprints)


def verify(cache: SynthesisCache, *, repair: bool = False) -> VerifyReport:
    """Read and check every value; delete the damaged ones, and what killed writers left behind,
    if `repair`.
    """
    with _explained(cache, change=repair):
        good, damaged = cache.backend.check(
            lambda key, value: decode(key, value) is not None, repair=repair
        )
    return VerifyReport(good, damaged, damaged if repair else 0)


def prune(
    cache: SynthesisCache, *, max_bytes: int | None = None, fingerprint: str | None = None
) -> int:
    """Delete all entries of one synthesizer, then the oldest ones down to `max_bytes`.

    Returns:
        How many entries were deleted.
    """
    deleted = 0
    with _explained(cache, change=True):
        if fingerprint is not None:
            deleted += cache.backend.delete(synthesizer_prefix(fingerprint))
        if max_bytes is not None:
            deleted += cache.backend.evict(max_bytes)
    return deleted


@contextmanager
def _explained(cache: SynthesisCache, *, change: bool = False) -> Iterator[None]:
    if change and cache.readonly:
        raise CacheError(f"{cache.path} was opened with readonly=True and cannot be changed")
    cache.flush()
    try:
        yield
    except StoreError as error:
        verb = "changed" if change else "read"
        raise CacheError(f"{cache.path}: the cache cannot be {verb} ({error})") from error
