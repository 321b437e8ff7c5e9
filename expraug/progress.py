"""Progress of long work: what is done now, how far it is, how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, and how much of all work is done, of how much in all; 0 where
that is not known."""


def silent(step: str, done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar on stderr, with an estimate of the time that is left; in a file, a line now and
    then.

    Yields:
        What `evaluate` and `augment_video` take as `progress`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _in_lines(console.file)
        return
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=console, transient=True, speed_estimate_period=300) as bar:
        task = bar.add_task("", total=None)

        def show(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total or None)

        yield show


_PAUSE = 30.0  # seconds between two lines


def _in_lines(out: IO[str]) -> Progress:
    """Return what writes the share that is done, a line every half a minute at most."""
    last = time.monotonic()

    def show(step: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PAUSE:
            last = now
            share = f"{100 * done // total} %: " if total else ""
            print(f"{share}{step}", file=out, flush=True)

    return show
