"""How much a directory store holds, without a walk through it and without locks.

A folder of empty files, whose names say all, so that one listing reads the accounts:

    walk.NUMBER.ID.ENTRIES.BYTES      what the last walk through the store found
    since.NUMBER.ID.ENTRIES.BYTES     what one writer has added since that walk

A writer changes its figure by renaming its file. It enters what it is about to store, and again
if a walk ended meanwhile: what is in doubt counts twice rather than never, until the next walk.
"""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from expraug.cache.store import Size


@dataclass
class Statement:
    """The accounts at one time: number and result of the last walk, what each writer added."""

    number: int = 0
    walked: Size = field(default_factory=Size)
    since: dict[str, Size] = field(default_factory=dict)

    @property
    def total(self) -> Size:
        entries = self.walked.entries + sum(size.entries for size in self.since.values())
        return Size(max(entries, 0), max(self.walked.bytes + self.added_bytes, 0))

    @property
    def added_bytes(self) -> int:
        return sum(size.bytes for size in self.since.values())


class _Own(threading.local):
    """The file of this thread, in this process: `pid` tells a forked child that it is not its."""

    pid = 0
    number = -1
    id = ""
    size = Size()
    path = Path()


class Accounts:
    """The accounts in one folder. Its methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = _Own()

    def read(self) -> Statement:
        """Return the accounts. What others change meanwhile may or may not be in it."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return Statement()
        parsed = [p for p in map(_parse, names) if p is not None]
        walks = [(number, id, size) for kind, number, id, size in parsed if kind == "walk"]
        number, _, walked = max(walks, default=(0, "", Size()))
        statement = Statement(number, walked)
        for kind, since, id, size in parsed:
            if kind == "since" and since == number:
                # a listing may show a file under its old and its new name
                statement.since[id] = max(size, statement.since.get(id, size), key=lambda s: s[1])
        return statement

    def add(self, entries: int, bytes: int) -> Statement:
        """Enter what this thread adds to the store, or takes away; return the accounts after it."""
        statement = self.read()
        while True:
            self._enter(statement.number, entries, bytes)
            number, statement = statement.number, self.read()
            if statement.number == number:  # else a walk has just ended and cleared the entry
                return statement

    def subtract(self, before: Statement, deleted: Size) -> None:
        """Enter what was deleted since `before` was read, unless a walk has found it gone."""
        if deleted.entries and self.read().number == before.number:
            self.add(-deleted.entries, -deleted.bytes)

    def _enter(self, number: int, entries: int, bytes: int) -> None:
        own = self._own
        if (own.pid, own.number) == (os.getpid(), number):
            own.size = own.size.plus(entries, bytes)
            old, own.path = own.path, self._path("since", number, own.id, own.size)
            with suppress(FileNotFoundError):  # the folder was emptied
                os.rename(old, own.path)
                return
        own.pid, own.number, own.id = os.getpid(), number, uuid.uuid4().hex
        own.size = Size(entries, bytes)
        own.path = self._path("since", number, own.id, own.size)
        self._make(own.path)

    def restate(self, before: Statement, found: Size) -> None:
        """Enter what a walk found; `before` is what was read when it began."""
        now = self.read()
        if now.number != before.number:
            return  # another walk ended meanwhile, and what it found stands
        # This one may have passed the folders to which others added: rather twice than never.
        found = found.plus(0, max(now.added_bytes - before.added_bytes, 0))
        number = now.number + 1
        self._make(self._path("walk", number, uuid.uuid4().hex, found))
        for name in os.listdir(self.folder):
            parsed = _parse(name)
            if parsed is not None and parsed[1] < number:
                (self.folder / name).unlink(missing_ok=True)

    def _path(self, kind: str, number: int, id: str, size: Size) -> Path:
        return self.folder / f"{kind}.{number}.{id}.{size.entries}.{size.bytes}"

    def _make(self, path: Path) -> None:
        try:
            path.touch()
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.touch()


def _parse(name: str) -> tuple[str, int, str, Size] | None:
    try:
        kind, number, id, entries, size = name.split(".")
        return kind, int(number), id, Size(int(entries), int(size))
    except ValueError:  # none of ours
        return None
