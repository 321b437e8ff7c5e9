"""The cache itself: looking up and storing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, get_args

from expraug.cache import maintenance
from expraug.cache.directory_store import DirectoryStore
from expraug.cache.encoding import decode, encode, split_encoding
from expraug.cache.entry import CacheEntry, synthesizer_prefix
from expraug.cache.hit_rate import HitRateWatch
from expraug.cache.lmdb_store import LmdbStore
from expraug.cache.store import CacheError, CacheFormatError, Store, StoreError, StoreKind
from expraug.cache.writer import BackgroundWriter, Entries

BATCH = 256
"""Entries that are stored at once at most: LMDB's other writers wait meanwhile."""

_STORES: dict[StoreKind, type[Store]] = {"lmdb": LmdbStore, "directory": DirectoryStore}
_T = TypeVar("_T")


@dataclass
class CacheStats:
    """What one `SynthesisCache` has done; `damaged` look-ups are misses too."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    evicted: int = 0
    failed: int = 0


class SynthesisCache:
    """Synthetic faces on disk, shared by processes and threads.

    It may be made before workers start, by fork or by spawn: each process opens the files at its
    first use, and it pickles as its settings. A damaged value is a miss. A value that cannot be
    stored (disk full, folder read-only) is counted in `stats.failed` with one warning, and
    training goes on. One more warning tells of look-ups that cannot hit; see `HitRateWatch`.

    Args:
        path: the cache folder; made at the first use.
        store: "lmdb" (one file, on a local disk: LMDB needs shared memory maps and POSIX locks,
            which network file systems do not give reliably) or "directory" (one file a key, on
            any file system, for many writers on many machines). None is what the folder holds,
            or "lmdb" in a new one. On a disk that returns other bytes than were written, use
            "directory": values are checked in both, but LMDB trusts the pages of its own index,
            and a damaged one may end the process.
        encoding: of new values: "raw" (fast), "png" (lossless, half the room), "webp" (lossless,
            a third), or "jpeg" and "jpeg:QUALITY" (a tenth, but other pixels). All of them can be
            read whatever is set here.
        max_bytes: limit on the bytes of all values; the ones inserted first make way. LMDB's file
            needs some more and never shrinks: freed room is used again. A directory makes way
            for a tenth of the limit at once, and with many writers may exceed it for a moment.
        readonly: store nothing. The folder must hold a cache, and LMDB still needs to write to
            `lock.mdb` unless the file system is mounted read-only.
        warn_after: look-ups from which on to warn of misses; None for never.

    Raises:
        ValueError: an argument is out of range.
        CacheError: there is no cache to read; or, at any use, the folder cannot be opened.
        CacheFormatError: the folder holds a cache in the other store; or, at any use, none, or one
            of another format.
        MissingDependencyError: at any use, if lmdb or xxhash is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        store: StoreKind | None = None,
        *,
        encoding: str = "raw",
        max_bytes: int | None = None,
        readonly: bool = False,
        warn_after: int | None = 50_000,
    ) -> None:
        self.lossless = split_encoding(encoding)[0] != "jpeg"
        if max_bytes is not None and max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive or None, not {max_bytes}")
        if store is not None and store not in _STORES:
            raise ValueError(f"store must be one of {get_args(StoreKind)} or None, not {store!r}")
        self.path = Path(os.path.realpath(path))
        found = find_store(self.path)
        if found is None and readonly:
            raise CacheError(f"{self.path}: there is no cache to read; check the path")
        if None not in (found, store) and found != store:
            raise CacheFormatError(
                f"{self.path} holds a cache with store={found!r}, not {store!r}: leave the store "
                "out, or give another path"
            )
        self.backend: Store = _STORES[found or store or "lmdb"](self.path)
        self.encoding = encoding
        self.max_bytes = max_bytes
        self.readonly = readonly
        self.warn_after = warn_after
        self.stats = CacheStats()
        self._watch = HitRateWatch()
        self._warned: set[str] = set()
        self._writer: BackgroundWriter | None = None
        self.is_filling = False

    def __getstate__(self) -> dict[str, Any]:
        names = ("path", "store", "encoding", "max_bytes", "readonly", "warn_after")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def store(self) -> StoreKind:
        """ "lmdb" or "directory"."""
        return self.backend.kind

    def close(self) -> None:
        """Close the files; the next use, by any cache on this folder, opens them again."""
        self.flush()
        self.backend.close()

    def get(self, key: bytes) -> CacheEntry | None:
        """Return the entry under the key, or None: a miss, which a damaged value is too."""
        if self._writer is not None and self._writer.is_here:
            self._writer.wait_for(key)
        entry, damaged = None, False
        try:
            value = self.backend.get(key)
            entry = None if value is None else decode(key, value)
            damaged = entry is None and value is not None
        except StoreError as error:
            damaged = True
            self._warn("read", f"a read failed ({error}) and counts as a miss.")
        hit = entry is not None
        self.stats.hits += hit
        self.stats.misses += not hit
        self.stats.damaged += damaged
        if self.warn_after is not None and self._watch.sees_no_use(
            key, hit, self.backend, self.warn_after
        ):
            self._warn(
                "hits",
                "nearly no image that was looked up had been seen before. Put RandomExpression "
                "first in the pipeline, before any random transform, so that it sees the same "
                "pixels in every epoch. If this is the first pass over new images, nothing is "
                "wrong; ExpressionAugmenter.warm fills the cache ahead.",
            )
        return entry

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While inside, expect misses, and let a thread store what is made.

        No look-up counts towards the warning about misses. At the end all is stored.

        Raises:
            CacheError: something could not be stored. Where another error ends it, that is a
                warning.
        """
        before = self.warn_after, self.is_filling
        self.warn_after, self.is_filling = None, True
        try:
            yield
        except BaseException:
            try:
                self.flush()
            except CacheError as error:
                warnings.warn(str(error), stacklevel=3)
            raise
        else:
            self.flush()
        finally:
            self.warn_after, self.is_filling = before

    def put_later(self, keys: Sequence[bytes], entries: Entries) -> None:
        """Let a thread store entries while the caller goes on; `get` waits for what it asks for.

        All is stored at the end of `filling`, after `flush`, and before the process ends, if it is
        not killed.

        Args:
            keys: of the entries.
            entries: gives them; called by the thread.

        Raises:
            CacheError: entries that were given before could not be stored.
        """
        if self._writer is None or not self._writer.is_here:
            self._writer = BackgroundWriter(self.put_many, str(self.path))
        self._writer.put(keys, entries)

    def flush(self) -> None:
        """Wait until all is stored that was given to `put_later`.

        Raises:
            CacheError: something could not be stored.
        """
        if self._writer is not None and self._writer.is_here:
            self._writer.flush()

    def as_stored(self, key: bytes, entry: CacheEntry) -> CacheEntry:
        """Return an entry as `get` will give it: another one only where the encoding loses."""
        return entry if self.lossless else decode(key, encode(key, entry, self.encoding)) or entry

    def put(self, key: bytes, entry: CacheEntry) -> bool:
        """Store one entry, in place of any under the same key.

        Returns:
            Whether it is stored: if so, a process killed after this loses nothing.

        Raises:
            ValueError: the entry's arrays are not as stated.
        """
        return self.put_many([(key, entry)]) == 1

    def put_many(self, items: Iterable[tuple[bytes, CacheEntry]]) -> int:
        """Store entries, many at once, which is much cheaper with LMDB; return how many."""
        stored = 0
        remaining = iter(items)
        while chunk := list(islice(remaining, BATCH)):
            # Encoded first, so that nothing of the caller runs inside a transaction.
            batch = [(key, encode(key, entry, self.encoding)) for key, entry in chunk]
            if self.max_bytes is not None:
                batch = [item for item in batch if len(item[1]) <= self.max_bytes]
            evicted = self._try(self.backend.put_many, batch, self.max_bytes)
            if evicted is not None:
                self.stats.evicted += evicted
                stored += len(batch)
            self.stats.failed += len(chunk) - (0 if evicted is None else len(batch))
        return stored

    def register(self, fingerprint: str) -> None:
        """Remember the fingerprint behind a key's first 8 bytes, so that `info` can show it."""
        self._try(self.backend.set_name, synthesizer_prefix(fingerprint), fingerprint)

    def _try(self, write: Callable[..., _T], *args: Any) -> _T | None:
        """Call what writes; None, and a warning, if it failed."""
        if self.readonly:
            problem = "it was opened with readonly=True"
        else:
            try:
                return write(*args)
            except StoreError as error:
                problem = str(error)
        self._warn(
            "write",
            f"synthetic faces cannot be stored ({problem}). Training goes on without storing "
            "them; free disk space or make the folder writable.",
        )
        return None

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{self.path}: {message}", UserWarning, stacklevel=3)

    info = maintenance.info
    verify = maintenance.verify
    prune = maintenance.prune


def find_store(path: Path) -> StoreKind | None:
    """Return the store of the cache in a folder, or None if there is none."""
    return next((kind for kind, store in _STORES.items() if store.is_at(path)), None)
