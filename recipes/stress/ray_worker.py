"""Kills the Ray workers that this process has started, while it waits for them."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def kill_workers(kills: int, seed: int = 0, pause: float = 1.5) -> Iterator[list[int]]:
    """While inside, kill actors of Ray Data at random moments; yield the ids of those killed.

    Args:
        kills: how many at most.
        seed: decides on the moments.
        pause: mean time between two, in seconds.
    """
    killed: list[int] = []
    over = threading.Event()
    draw = random.Random(seed)

    def run() -> None:
        while len(killed) < kills and not over.wait(draw.uniform(0, 2 * pause)):
            workers = sorted(set(actors()) - set(killed))
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(pid := draw.choice(workers), signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def actors() -> Iterator[int]:
    """Yield the ids of processes that run actors of Ray Data and descend from this one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                title = (entry / "cmdline").read_bytes()
                if b"ray::" in title and b"MapWorker" in title and _descends(int(entry.name)):
                    yield int(entry.name)


def _descends(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False
