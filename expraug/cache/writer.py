"""Entries that a thread stores, while the next ones are made."""

from __future__ import annotations

import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeAlias

from expraug.cache.entry import CacheEntry
from expraug.cache.store import CacheError

MOST_WAITING = 4
"""Groups of entries that wait at most; whoever gives more waits for the first of them."""

Entries: TypeAlias = "Callable[[], Sequence[CacheEntry]]"
"""Gives entries, which may still be on their way from a device; called by the thread."""
_Jobs: TypeAlias = "deque[tuple[frozenset[bytes], Future[None]]]"


class BackgroundWriter:
    """Stores entries in a thread of its own, in the order in which they are given.

    What was given is stored before the interpreter exits. An error of the thread is raised, as a
    `CacheError`, by the next `put` or `flush`; at the end of the process it becomes a warning.

    Args:
        store: stores (key, entry) pairs.
        place: of the cache, for messages.
    """

    def __init__(
        self, store: Callable[[Iterable[tuple[bytes, CacheEntry]]], int], place: str
    ) -> None:
        self._store, self._place = store, place
        self._pool = ThreadPoolExecutor(1, "expraug-cache")
        self._jobs: _Jobs = deque()
        self._lock = Lock()
        self._process = os.getpid()
        weakref.finalize(self, _finish, self._jobs, place, self._process)

    @property
    def is_here(self) -> bool:
        """Whether the thread lives in this process: a fork has none."""
        return os.getpid() == self._process

    def put(self, keys: Sequence[bytes], entries: Entries) -> None:
        """Store entries soon.

        Raises:
            CacheError: what was given before could not be stored; these will be.
        """
        with self._lock:
            self._jobs.append((frozenset(keys), self._pool.submit(self._work, keys, entries)))
            while len(self._jobs) > 1:
                if len(self._jobs) <= MOST_WAITING and not self._jobs[0][1].done():
                    break
                self._settle()

    def wait_for(self, key: bytes) -> None:
        """Wait until what was given under a key is stored, or could not be."""
        with self._lock:
            wait([job for keys, job in self._jobs if key in keys])

    def flush(self) -> None:
        """Wait until all is stored.

        Raises:
            CacheError: something could not be stored; the rest is.
        """
        with self._lock:
            wait([job for _, job in self._jobs])
            while self._jobs:
                self._settle()

    def _settle(self) -> None:
        """Wait for the first job; raise what went wrong in it."""
        error = self._jobs[0][1].exception()
        self._jobs.popleft()
        if error is not None:
            raise CacheError(_message(self._place, error)) from error

    def _work(self, keys: Sequence[bytes], entries: Entries) -> None:
        self._store(zip(keys, entries(), strict=True))


def _message(place: str, error: BaseException) -> str:
    return (
        f"{place}: some synthetic faces could not be stored ({type(error).__name__}: {error}). "
        f"What was stored can be used, and the same call makes the rest"
    )


def _finish(jobs: _Jobs, place: str, process: int) -> None:
    if os.getpid() != process:
        return
    wait([job for _, job in jobs])
    for _, job in jobs:
        if (error := job.exception()) is not None:
            warnings.warn(_message(place, error), stacklevel=2)
