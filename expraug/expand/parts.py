"""What of an expansion is done: the manifest in parts, one file a chunk, until all are there."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from expraug.errors import ExpraugError
from expraug.expand.layout import CARD, FILES, MANIFEST, find_settings
from expraug.expand.manifest import (
    ManifestWriter,
    Row,
    Tally,
    read_settings,
    read_tables,
    read_tally,
    table_of,
)
from expraug.faces.image_file import replacing, write_file


class DestinationError(ExpraugError, ValueError):
    """The destination lies in the source, or holds something else."""

    reason = "destination"


class Parts:
    """Keeps track of which chunks are done, for any number of processes and machines at once.

    A chunk is done when its part of the manifest is there. The manifest itself is there when all
    chunks are: an expanded set with a manifest is complete. A chunk that is worked on twice gets
    the same bytes twice, so nothing needs a lock.

    Args:
        folder: the expanded set.
        work: the work folder in it, which is there while the set is not complete.
        chunks: how many there are.
        settings: JSON values that decide what is made.
    """

    def __init__(self, folder: Path, work: Path, chunks: int, settings: dict[str, Any]) -> None:
        self.folder, self.work, self.chunks, self.settings = folder, work, chunks, settings
        self.manifest = folder / MANIFEST
        self.staging = self.work / "tmp"

    @property
    def complete(self) -> bool:
        """Whether the whole set is there."""
        return self.manifest.is_file()

    def check(self) -> None:
        """Raise DestinationError if the folder holds an expansion with other settings."""
        state = find_settings(self.folder)
        if self.manifest.exists():
            there = read_settings(self.manifest)
            if there is None:
                raise DestinationError(
                    f"{self.manifest} is no manifest of an expansion; give another folder"
                )
        elif state is not None:
            there = json.loads(state.read_text())
        elif (self.folder / CARD).exists():
            raise DestinationError(
                f"{self.folder / CARD} would be replaced by the data card; move it away, or "
                f"give another folder"
            )
        else:
            return
        now = json.loads(json.dumps(self.settings))
        differing = sorted(k for k in there.keys() | now.keys() if there.get(k) != now.get(k))
        if differing:
            raise DestinationError(
                f"{self.folder} holds an expansion made with other settings: "
                f"{', '.join(differing)}; give another folder, or --overwrite to delete it"
            )

    def clear(self) -> None:
        """Delete the expansion that the folder holds, whatever its settings: its files and all its
        folders. Links are deleted, not what they lead to.

        Raises:
            DestinationError: what the folder holds is no expansion.
        """
        state = find_settings(self.folder)
        if state is None and not self.manifest.exists():
            return
        if state is None and read_settings(self.manifest) is None:
            raise DestinationError(
                f"{self.manifest} is no manifest of an expansion; give another folder"
            )
        for path in list(self.folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name in FILES or path.is_dir():
                path.unlink()

    def begin(self, chunks: Iterable[int]) -> list[int]:
        """Make the work folder and return which of these chunks are still to be done."""
        if self.complete:
            return []
        for folder in (self.staging, self.work / "parts", self.work / "attempts"):
            folder.mkdir(parents=True, exist_ok=True)
        write_file(self.work / "settings.json", json.dumps(self.settings, sort_keys=True).encode())
        chunks = list(chunks)
        share = set(chunks)
        for attempt in (self.work / "attempts").iterdir():
            if int(attempt.name.split("-")[0]) in share:
                attempt.unlink(missing_ok=True)
        done = self.done()
        return [chunk for chunk in chunks if chunk not in done]

    def drop_damaged(self) -> None:
        """Delete parts that cannot be read, as after a power cut: they count as not done."""
        if self.complete:
            return
        for chunk in self.done():
            try:
                read_tally(self._path(chunk))
                for _ in read_tables(self._path(chunk)):
                    pass
            except FileNotFoundError:  # another process has completed the set
                continue
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
            ):  # pyarrow's are ValueErrors, OSErrors
                self._path(chunk).unlink(missing_ok=True)

    def done(self) -> set[int]:
        """Return the chunks that are done."""
        return {int(path.stem) for path in (self.work / "parts").glob("[0-9]*.parquet")}

    def is_done(self, chunk: int) -> bool:
        """Say whether a chunk is done."""
        return self._path(chunk).exists()

    def attempt(self, chunk: int) -> int:
        """Note that a chunk is begun, and return how often it has been since `begin`."""
        (self.work / "attempts" / f"{chunk:06d}-{uuid.uuid4().hex}").touch()
        return sum(1 for _ in (self.work / "attempts").glob(f"{chunk:06d}-*"))

    def commit(self, chunk: int, rows: Iterable[Row], tally: Tally) -> None:
        """Note that a chunk is done: its files are there, and these are its rows."""
        with replacing(self._path(chunk), self.staging) as partial:
            writer = ManifestWriter(partial, {})
            writer.append(table_of(rows))
            writer.close(tally)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of all that is done, in the order of the source set."""
        for path in self._files():
            yield from read_tables(path, columns)

    def tally(self) -> Tally:
        """Return the tally of all that is done."""
        total = Tally()
        for path in self._files():
            total.add(read_tally(path))
        return total

    def _files(self) -> list[Path]:
        return [self.manifest] if self.complete else [self._path(c) for c in sorted(self.done())]

    def finish(self, describe: Callable[[], None]) -> bool:
        """Put the manifest in place if every chunk is done; say whether the set is complete.

        Several processes may do this at the same time.

        Args:
            describe: writes what else belongs to a complete set, before it counts as complete.

        Raises:
            DestinationError: a part is damaged.
        """
        if not self.complete:
            if len(self.done()) < self.chunks:
                return False
            try:
                self._merge(describe)
            except FileNotFoundError:
                if not self.complete:  # another process was faster, and has cleared away
                    raise
        shutil.rmtree(self.work, ignore_errors=True)
        return True

    def _merge(self, describe: Callable[[], None]) -> None:
        with replacing(self.manifest, self.staging) as partial:
            writer, total = ManifestWriter(partial, self.settings), Tally()
            for path in map(self._path, range(self.chunks)):
                try:
                    total.add(read_tally(path))
                    for table in read_tables(path):
                        writer.append(table)
                except pa.ArrowInvalid as error:  # not by a kill; by a power cut, say
                    path.unlink(missing_ok=True)
                    raise DestinationError(
                        f"{path} was damaged and is deleted; run the same again"
                    ) from error
            writer.close(total)
            describe()

    def _path(self, chunk: int) -> Path:
        return self.work / "parts" / f"{chunk:06d}.parquet"
