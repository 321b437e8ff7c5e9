"""Where the faces of a chunk go: files in class folders, a tar shard, or a parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from expraug.datasets.source import FaceItem
from expraug.expand.manifest import Row, clean_text
from expraug.expand.options import WriteKind


@dataclass(frozen=True)
class Face:
    """One face to write.

    Args:
        name: its path in an expanded set of files, "<class>/<file>".
        label: number of its class.
        data: the image file; that of an original may lie on disk.
        item: the source.
        row: its row in the manifest; None for an original.
    """

    name: str
    label: int
    data: bytes | Path
    item: FaceItem
    row: Row | None


def source_of(item: FaceItem) -> dict[str, str | None]:
    """Return where an original came from, as columns of the manifest."""
    values = {"source": item.origin, "source_class": item.class_name, "identity": item.identity}
    return {name: value and clean_text(value) for name, value in values.items()}


class Writer(Protocol):
    """Writes the faces of one chunk, the same bytes each time it is given the same faces."""

    def stage(self, face: Face) -> Face:
        """Do what can be done at once, in any thread and any order."""
        ...

    def append(self, face: Face) -> str:
        """Take the next staged face, in order, and return its name for the manifest."""
        ...

    def close(self) -> None:
        """Put all in place."""
        ...

    def abort(self) -> None:
        """Leave nothing half-written behind."""
        ...


def create_writer(
    kind: WriteKind, folder: Path, staging: Path, chunk: int, classes: Sequence[str]
) -> Writer:
    """Return a writer for one chunk.

    Args:
        kind: form of the set.
        folder: the expanded set.
        staging: folder on the same file system, for files that are not whole yet.
        chunk: number of the chunk.
        classes: names of the classes, by label.
    """
    if kind == "webdataset":
        from expraug.expand.writers.webdataset import WebDatasetWriter

        return WebDatasetWriter(folder, staging, chunk)
    if kind == "parquet":
        from expraug.expand.writers.parquet import ParquetWriter

        return ParquetWriter(folder, staging, chunk, classes)
    from expraug.expand.writers.folder import FolderWriter

    return FolderWriter(folder, staging)
