"""Values in one file each: for network file systems, and for many writers on many machines.

    expraug-cache.json               kind and format
    entries/SYNTHESIZER/IMA/KEY      values; all in hexadecimal, IMA the image's first three digits
    fingerprints/SYNTHESIZER         what made them, as text
    sizes/                           accounts, see `directory_accounts`

It needs atomic renames inside one folder and no locks. A value is written under a name that no
other process can have and then renamed, so its file is whole or absent. A killed writer leaves at
most that temporary file, which whoever next walks through the store removes when it is old.

The store makes no links and follows none within its folder, so that nothing outside of it is read,
written or deleted. What else lies in it, a link, a pipe, a folder, is left alone.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import re
import stat as modes
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from expraug.cache.directory_accounts import Accounts
from expraug.cache.entry import SYNTHESIZER_BYTES
from expraug.cache.store import (
    CacheError,
    CacheFormatError,
    IsWhole,
    Size,
    StoreError,
    StoreKind,
    Usage,
)

MARKER = "expraug-cache.json"
TEMPORARY = ".tmp"
TEMPORARY_AGE = 3600
"""Seconds after which no writer is still at a temporary file."""
ROOM = 10
"""A put that exceeds the limit makes way for a tenth of it, as finding the oldest takes a walk."""
ATTEMPTS = 5
_DIGITS = 2 * SYNTHESIZER_BYTES
_HEXADECIMAL = re.compile("([0-9a-f]{2})+")


class DirectoryStore:
    """A `Store` with one file a key.

    On a network file system another machine may see a new value, and count it towards the limit,
    only when its own view of the folder is refreshed: seconds later, up to a minute on NFS.
    """

    kind: StoreKind = "directory"
    format = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries, self._fingerprints = path / "entries", path / "fingerprints"
        self._accounts = Accounts(path / "sizes")
        self._opened = False

    @staticmethod
    def is_at(path: Path) -> bool:
        return (path / MARKER).is_file()

    @property
    def engine(self) -> str:
        return "one file a key"

    def get(self, key: bytes) -> bytes | None:
        with self._used():
            return _read(self._file(key))

    def put_many(self, items: Sequence[tuple[bytes, bytes]], max_bytes: int | None) -> int:
        with self._used():
            announced, stored = Size(len(items), sum(len(value) for _, value in items)), Size()
            number = self._accounts.add(*announced).number
            try:
                for key, value in items:
                    old = self._write(self._file(key), value)
                    stored = stored.plus(old is None, len(value) - (old or 0))
            finally:
                accounts = self._accounts.read()
                if accounts.number != number:  # a walk, which may have missed what was under way
                    accounts = self._accounts.add(*stored)
                elif stored != announced:
                    change = stored.plus(-announced.entries, -announced.bytes)
                    accounts = self._accounts.add(*change)
            if max_bytes is None or accounts.total.bytes <= max_bytes:
                return 0
            return self._make_room(max_bytes, max_bytes - max_bytes // ROOM)

    def knows(self, prefix: bytes) -> bool:
        with self._used():
            start = prefix.hex()
            return any(name.startswith(start) for name in _names(self._file(prefix).parent))

    def size(self) -> Size:
        with self._used():
            return self._accounts.read().total

    def set_name(self, prefix: bytes, name: str) -> None:
        with self._used():
            file = self._fingerprints / prefix.hex()
            if not _read(file):
                self._write(file, name.encode())

    def names(self) -> dict[bytes, str]:
        with self._used():
            names = [n for n in _names(self._fingerprints) if _HEXADECIMAL.fullmatch(n)]
            texts = {name: _read(self._fingerprints / name) or b"" for name in names}
            return {bytes.fromhex(n): text.decode(errors="replace") for n, text in texts.items()}

    def usage(self) -> Usage:
        with self._used():
            by_synthesizer: dict[bytes, Size] = {}
            for file, stat in self._files():
                prefix = bytes.fromhex(file.name)[:SYNTHESIZER_BYTES]
                size = by_synthesizer.get(prefix, Size())
                by_synthesizer[prefix] = size.plus(1, stat.st_size)
            everything = (Path(f, name) for f, _, files in os.walk(self.path) for name in files)
            return Usage(by_synthesizer, sum(map(_disk_bytes, everything)))

    def check(self, is_whole: IsWhole, *, repair: bool) -> tuple[int, int]:
        good, damaged = 0, Size()
        with self._used():
            before = self._accounts.read()
            for file, stat in self._files(sweep=repair):
                value = _read(Path(file.path))
                if value is None:  # another process has just deleted it
                    continue
                if is_whole(bytes.fromhex(file.name), value):
                    good += 1
                    continue
                damaged = damaged.plus(1, stat.st_size)
                if repair:
                    _delete(file.path)
            if repair:
                self._accounts.subtract(before, damaged)
        return good, damaged.entries

    def delete(self, prefix: bytes) -> int:
        with self._used():
            before, deleted = self._accounts.read(), Size()
            for file, stat in self._files(prefix, sweep=True):
                if _delete(file.path):
                    deleted = deleted.plus(1, stat.st_size)
            self._accounts.subtract(before, deleted)
            return deleted.entries

    def evict(self, max_bytes: int) -> int:
        with self._used():
            before, found = self._accounts.read(), Size()
            for _, stat in self._files():
                found = found.plus(1, stat.st_size)
            self._accounts.restate(before, found)
            deleted = 0
            while self._accounts.read().total.bytes > max_bytes:
                deleted += self._make_room(max_bytes, max_bytes)
            return deleted

    def close(self) -> None:
        """Nothing stays open."""

    def _file(self, key: bytes) -> Path:
        name = key.hex()
        # All keys of a synthesizer start alike: after those digits come the image's.
        return self._entries / name[:_DIGITS] / f"{name[_DIGITS : _DIGITS + 3]:0<3}" / name

    def _write(self, file: Path, value: bytes) -> int | None:
        """Write a file, whole or not at all; return the bytes of one that it replaced."""
        temporary = file.with_name(f".{uuid.uuid4().hex}{TEMPORARY}")
        self._refuse_links(file.parent)
        old = _stat(file)
        try:
            for attempt in range(ATTEMPTS):
                try:
                    with temporary.open("xb") as out:
                        out.write(value)
                    break
                except FileNotFoundError:
                    if attempt == ATTEMPTS - 1:
                        raise
                    self._make()
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self._refuse_links(file.parent)
            if old is not None:
                os.utime(temporary, ns=(old.st_atime_ns, old.st_mtime_ns))
            os.replace(temporary, file)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        return None if old is None else old.st_size

    def _refuse_links(self, folder: Path) -> None:
        """Raise OSError if a folder of the store is a link: a write would land elsewhere."""
        while folder != self.path:
            if folder.is_symlink():
                raise OSError(f"{folder} is a link, and the cache makes none: delete it")
            folder = folder.parent

    def _files(
        self, prefix: bytes = b"", *, sweep: bool = False
    ) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """Walk through the values whose keys start with the prefix.

        Args:
            sweep: delete temporary files on the way that no writer can still be at.
        """
        start = prefix.hex()
        if sweep:
            for folder in (self.path, self._fingerprints):
                for file in _scan(folder):
                    _delete_if_abandoned(file)
        for synthesizer in _folders(self._entries):
            if not start.startswith(synthesizer.name[: len(start)]):
                continue
            for image in _folders(synthesizer.path):
                for file in _scan(image.path):
                    if _HEXADECIMAL.fullmatch(file.name):
                        stat = _stat(file.path) if file.name.startswith(start) else None
                        if stat is not None and modes.S_ISREG(stat.st_mode):
                            yield file, stat
                    elif sweep:
                        _delete_if_abandoned(file)

    def _make_room(self, max_bytes: int, target: int) -> int:
        """Walk once through all values; if they exceed the limit, delete the oldest, down to the
        target, and restate the accounts. Any number of processes may do so at once: they delete
        the same files, and a file that is gone counts as freed whoever deleted it.
        """
        before, found = self._accounts.read(), Size()
        excess = before.total.bytes - target
        oldest: list[tuple[int, str, int]] = []  # a heap with the newest of them on top
        held = 0
        for file, stat in self._files(sweep=True):
            found = found.plus(1, stat.st_size)
            heapq.heappush(oldest, (-stat.st_mtime_ns, file.path, stat.st_size))
            held += stat.st_size
            while oldest and held - oldest[0][2] >= excess:
                held -= heapq.heappop(oldest)[2]
        deleted = 0
        excess = found.bytes - target if found.bytes > max_bytes else 0
        for _, path, size in sorted(oldest, reverse=True):
            if excess <= 0:
                break
            deleted += _delete(path)
            excess -= size
            found = found.plus(-1, -size)
        self._accounts.restate(before, found)
        return deleted

    @contextmanager
    def _used(self) -> Iterator[None]:
        if not self._opened:
            self._open()
        try:
            yield
        except OSError as error:
            raise StoreError(str(error)) from error

    def _open(self) -> None:
        try:
            for folder in (self._entries, self._fingerprints, self.path / "sizes"):
                self._refuse_links(folder)
            text = _read(self.path / MARKER)
            if not text:  # a power cut may leave it empty
                self._make()
                text = _read(self.path / MARKER) or b""
        except OSError as error:
            raise CacheError(
                f"{self.path}: the cache cannot be opened ({error}). Check that the path is a "
                "folder, or can become one, and that this user may read it."
            ) from error
        try:
            found = json.loads(text)["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise CacheFormatError(
                f"{self.path / MARKER} is damaged or not expraug's. Give another path, or delete "
                "the cache and fill it again."
            ) from error
        if found != self.format:
            raise CacheFormatError(
                f"{self.path}: found cache format {found!r}, this expraug needs {self.format!r}. "
                "Install the version that wrote it, or delete the folder and fill the cache again."
            )
        self._opened = True

    def _make(self) -> None:
        """Make the folder and its marker, unless they are there."""
        if _read(self.path / MARKER):
            return
        self.path.mkdir(parents=True, exist_ok=True)
        marker = json.dumps({"store": self.kind, "format": self.format}).encode()
        self._write(self.path / MARKER, marker)


def _read(file: Path) -> bytes | None:
    """Return what is in a file, or None if there is none, or something else of this name."""
    for _ in range(ATTEMPTS):
        try:
            with open(file, "rb", opener=_open_file) as stream:
                regular = modes.S_ISREG(os.fstat(stream.fileno()).st_mode)
                return stream.read() if regular else None
        except (FileNotFoundError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link
                return None
            # NFS: the file was replaced, on another machine, between opening and reading
            if error.errno != errno.ESTALE:
                raise
    return None


def _open_file(path: str, flags: int) -> int:
    """Open a file to read; no link, and without waiting for a pipe's other end."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _folders(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    return (entry for entry in _scan(folder) if entry.is_dir(follow_symlinks=False))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _scan(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):  # deleted meanwhile, or not a store's
        return


def _delete(path: str) -> bool:
    """Delete a file; return whether it was this call that did."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _delete_if_abandoned(file: os.DirEntry[str]) -> None:
    if file.name.endswith(TEMPORARY):
        stat = _stat(file.path)
        regular = stat is not None and modes.S_ISREG(stat.st_mode)
        if stat is not None and regular and time.time() - stat.st_mtime > TEMPORARY_AGE:
            _delete(file.path)


def _stat(file: str | Path) -> os.stat_result | None:
    try:
        return os.lstat(file)
    except FileNotFoundError:
        return None


def _disk_bytes(file: Path) -> int:
    stat = _stat(file)
    if stat is None:
        return 0
    blocks: int | None = getattr(stat, "st_blocks", None)  # not on Windows
    return stat.st_size if blocks is None else blocks * 512
