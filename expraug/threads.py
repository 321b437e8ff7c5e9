"""One thread for each operation, several operations side by side.

Convolutions and sums round otherwise with another number of threads, so that the same face would
not give the same bytes. What decides on bytes runs each operation on one thread, and uses the cores
by working on several images at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_here = threading.local()
_inside = 0
_default = 1  # of this process, while anybody is inside


@contextmanager
def single_threaded() -> Iterator[int]:
    """Let torch operations on the CPU use one thread each; yield how many they would have used.

    May be nested, and used by several Python threads at once. PyTorch keeps the number for each
    Python thread, and a new one starts with the number that any thread set last: one that starts
    while others are inside starts with 1, and is given back what the first to enter had.
    """
    global _inside, _default
    if getattr(_here, "inside", False):
        yield 1
        return
    with _lock:
        own = torch.get_num_threads()
        if not _inside:
            _default = own
        elif own == 1:
            own = _default
        _inside += 1
        torch.set_num_threads(1)
    _here.inside = True
    try:
        yield own
    finally:
        _here.inside = False
        with _lock:
            _inside -= 1
            torch.set_num_threads(own)


def map_threads(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> list[Result]:
    """Return what a function returns for each item, on at most so many Python threads.

    To be called inside `single_threaded`. The first error is raised when all others are done.
    """
    workers = min(threads, len(items))
    if workers <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers, "expraug", initializer=_start) as pool:
        return list(pool.map(function, items))


def _start() -> None:
    torch.set_num_threads(1)
    _here.inside = True
