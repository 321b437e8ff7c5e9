"""What a cache needs of the place where its values lie, whichever it is.

`lmdb_store` is one file for all, `directory_store` one file a key. Values are bytes here: what
they mean is `encoding`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from expraug.errors import ExpraugError

StoreKind = Literal["lmdb", "directory"]

IsWhole = Callable[[bytes, bytes], bool]
"""Tells from a key and its value whether the value is undamaged."""


class CacheError(ExpraugError, RuntimeError):
    """The cache cannot be used: the message says why, where, and what to do."""

    reason = "cache"


class CacheFormatError(CacheError):
    """The folder holds no cache, a damaged one, or one written in another format."""

    reason = "cache_format"


class StoreError(CacheError):
    """One read or write failed, as on a full disk; the next may succeed."""

    reason = "cache_store"


class Size(NamedTuple):
    """Number of entries and bytes of their values."""

    entries: int = 0
    bytes: int = 0

    def plus(self, entries: int, bytes: int) -> Size:
        return Size(self.entries + entries, self.bytes + bytes)


class Usage(NamedTuple):
    """What a store holds, by the first 8 bytes of the keys, and bytes of all its files."""

    by_synthesizer: dict[bytes, Size]
    file_bytes: int


class Store(Protocol):
    """Values by key, read and written by many processes and threads at once.

    A reader sees a whole value or none, also after a writer was killed. A store may be made before
    workers fork; it is made anew, from its path, where it is unpickled.

    All methods raise `CacheError` if the store cannot be opened, and `StoreError` if it can but
    the operation fails.
    """

    kind: StoreKind
    format: int
    """Raised whenever another version could not read the store, or would read it wrongly."""

    def __init__(self, path: Path) -> None: ...

    @property
    def engine(self) -> str:
        """Name and version of what lies below."""
        ...

    @staticmethod
    def is_at(path: Path) -> bool:
        """Return whether the folder looks like a store of this kind; opens nothing."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """Return the value under the key, or None."""
        ...

    def put_many(self, items: Sequence[tuple[bytes, bytes]], max_bytes: int | None) -> int:
        """Store values; one that replaces another keeps its age.

        Then delete the oldest ones if all exceed `max_bytes`; return how many.
        """
        ...

    def knows(self, prefix: bytes) -> bool:
        """Return whether any key starts with these bytes, at least `IMAGE_BYTES` of them."""
        ...

    def size(self) -> Size:
        """Return the accounts of what is stored, without counting it."""
        ...

    def set_name(self, prefix: bytes, name: str) -> None:
        """Remember the fingerprint behind the first 8 bytes of keys, unless it is known."""
        ...

    def names(self) -> dict[bytes, str]:
        """Return the fingerprints that were remembered."""
        ...

    def usage(self) -> Usage:
        """Count what is stored; reads no values."""
        ...

    def check(self, is_whole: IsWhole, *, repair: bool) -> tuple[int, int]:
        """Read every value, delete damaged ones if `repair`; return counts of whole and damaged."""
        ...

    def delete(self, prefix: bytes) -> int:
        """Delete all entries whose keys start with the prefix; return how many."""
        ...

    def evict(self, max_bytes: int) -> int:
        """Delete the oldest entries, until the bytes of all are no more; return how many."""
        ...

    def close(self) -> None:
        """Close files; the next use opens them again."""
        ...
