"""The LMDB environment of a cache: opened once in a process, kept through forks, grown."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from expraug.cache.dependencies import lmdb
from expraug.cache.store import CacheError, CacheFormatError

FORMAT = b"1"
"""Raised whenever another version could not read the cache, or would read it wrongly."""
DATA = "data.mdb"
DATABASES = ("meta", "order", "values")
ATTEMPTS = 100
RESERVE = 1 << 20
"""Bytes of the file that values leave free, for deletions on a full disk."""

Databases = dict[str, Any]
_T = TypeVar("_T")


class Environment:
    """The environment of one folder in this process; `environment_of` returns it.

    LMDB must not open a file twice in a process, carry it open through a fork, or resize its map
    during a transaction. So all cache objects on a folder share one environment, and everything
    happens under its lock.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._handle: Any = None
        self._pid = 0
        self._databases: Databases = {}

    def run(
        self, body: Callable[[Any, Databases], _T], *, write: bool = False, buffers: bool = False
    ) -> _T:
        """Run `body(transaction, databases)`, again from its start if the map had to be resized.

        Raises:
            CacheError: the cache cannot be opened.
            lmdb.Error: the transaction failed.
        """
        attempt = 0
        while True:
            with self.lock:
                try:
                    # The id differs only after a fork that ran none of Python's hooks.
                    if self._handle is None or self._pid != os.getpid():
                        self._open()
                    with self._handle.begin(write=write, buffers=buffers) as txn:
                        return body(txn, self._databases)
                except (lmdb.Error, OSError, SystemError) as error:
                    attempt += 1
                    if attempt == ATTEMPTS or not self._may_try_again(error):
                        if self._handle is None:
                            raise self._explanation(error) from error
                        raise
            time.sleep(attempt / 1000)

    def reserve(self, size: int) -> None:
        """Take room on the disk for values of this size and, beyond them, for deletions: LMDB
        writes what it changes to other pages first, so a full disk would let nothing be deleted.

        Raises:
            CacheError: the cache cannot be opened.
            OSError: the disk is full.
        """
        if not hasattr(os, "posix_fallocate"):  # as on Windows and macOS
            return
        data = os.path.join(self.path, DATA)
        if not os.access(data, os.W_OK) and os.path.exists(data):
            return
        with self.lock:
            used = self.run(_pages)  # opens it first
            pages, page = self._handle.info()["last_pgno"] + 1, self._handle.stat()["psize"]
        there = os.path.getsize(data)
        free = max(there - pages * page, 0) + (pages - used) * page
        missing = 2 * size + RESERVE - free
        if missing > 0:
            file = os.open(data, os.O_RDWR)
            try:
                os.posix_fallocate(file, there, missing + RESERVE)
            finally:
                os.close(file)

    def close(self) -> None:
        """Close the files; the next `run` opens them again."""
        with self.lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def _open(self) -> None:
        self._handle = None
        os.makedirs(self.path, exist_ok=True)
        data = os.path.join(self.path, DATA)
        readonly = os.path.exists(data) and not os.access(data, os.W_OK)
        with ExitStack() as undo:
            handle = lmdb.open(
                self.path,
                map_size=0,  # as the file says: any other would undo another process's growth
                max_dbs=len(DATABASES),
                max_readers=1024,
                readonly=readonly,
                readahead=False,
                # Data is flushed before the page that refers to it, so a power cut cannot tear
                # the tree. That page is not flushed: a power cut may undo the last transaction,
                # and a put costs one flush less. A killed process loses nothing either way.
                sync=True,
                metasync=False,
                **engine(),
            )
            undo.callback(handle.close)
            _check_length(handle, data)
            handle.reader_check()  # frees the slots of killed readers
            self._databases = _open_databases(handle, readonly)
            undo.pop_all()
        self._handle, self._pid = handle, os.getpid()

    def _may_try_again(self, error: Exception) -> bool:
        if self._handle is None:
            # Another process grows the map right now, or the last user in this one still closes.
            return isinstance(error, lmdb.MapResizedError) or "already open" in str(error)
        if isinstance(error, lmdb.MapFullError):
            self._handle.set_mapsize(2 * self._handle.info()["map_size"])
        elif isinstance(error, lmdb.MapResizedError):
            self._handle.set_mapsize(0)  # adopts what another process has set
        elif isinstance(error, lmdb.ReadersFullError):
            self._handle.reader_check()
        else:
            return False
        return True

    def _explanation(self, error: Exception) -> CacheError:
        damaged = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError)
        foreign = (lmdb.NotFoundError, lmdb.IncompatibleError)
        if isinstance(error, damaged + foreign):
            return CacheFormatError(
                f"{self.path}: data.mdb is damaged, written by another LMDB, or no cache of "
                f"expraug ({error}). Give another path, or delete the cache and fill it again."
            )
        return CacheError(
            f"{self.path}: the cache cannot be opened ({error}). Check that the folder is on a "
            "local disk (elsewhere make it with store='directory'), that this user may write to it "
            "(lock.mdb too, even to read), and that nothing else in this process has it open."
        )


def engine() -> dict[str, int]:
    """Return what chooses LMDB 0.9, whose files LMDB 1.0 cannot read; lmdb 3 has both."""
    try:
        lmdb.version(lib_version=0)
    except (TypeError, lmdb.Error):
        return {}
    return {"lib_version": 0}


def _pages(txn: Any, databases: Databases) -> int:
    """Return how many pages hold something."""
    stats = [txn.stat(), *(txn.stat(database) for database in databases.values())]
    kinds = ("branch_pages", "leaf_pages", "overflow_pages")
    used: int = sum(stat[kind] for stat in stats for kind in kinds)
    return 2 + used  # 2: those of the format


def _check_length(handle: Any, data: str) -> None:
    # LMDB maps the file: a read beyond its end would kill the process with SIGBUS.
    needed = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
    size = os.path.getsize(data)
    if size < needed:
        raise CacheFormatError(
            f"{data} has {size} bytes but refers to {needed}: its copy was interrupted or it was "
            "damaged. Copy it again, or delete the folder."
        )


def _open_databases(handle: Any, readonly: bool) -> Databases:
    """Open the databases; in an empty environment, make them and stamp them with the format."""
    if not readonly:
        with handle.begin(write=True) as txn:
            if not txn.stat()["entries"]:
                made = {name: handle.open_db(name.encode(), txn) for name in DATABASES}
                txn.put(b"format", FORMAT, db=made["meta"])
    databases = {name: handle.open_db(name.encode(), create=False) for name in DATABASES}
    with handle.begin(write=not readonly) as txn:
        found = txn.get(b"format", db=databases["meta"])
    if found != FORMAT:
        raise CacheFormatError(
            f"{handle.path()}: found cache format {found!r}, this expraug needs {FORMAT!r}. "
            "Install the version that wrote it, or delete the folder and fill the cache again."
        )
    return databases


_environments: weakref.WeakValueDictionary[str, Environment] = weakref.WeakValueDictionary()
_environments_lock = threading.RLock()
_forking: list[Environment] = []


def environment_of(path: str) -> Environment:
    """Return the environment of a folder, the same to all who ask while anyone holds it."""
    with _environments_lock:
        environment = _environments.get(path)
        if environment is None:
            environment = _environments[path] = Environment(path)
        return environment


def _before_fork() -> None:
    # A child can neither use nor close what it inherits open: LMDB knows processes by the id of
    # the one that opened, and a close would wipe the parent's reader slots. So the parent closes
    # first, and each side opens again at its next use (about 1 ms).
    _environments_lock.acquire()
    _forking.extend(_environments.values())
    for environment in _forking:
        environment.lock.acquire()
        environment.close()


def _after_fork() -> None:
    while _forking:
        _forking.pop().lock.release()
    _environments_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
