"""The manifest of an expansion: one row for each planned synthetic face and each skipped source."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("source", pa.string()),
        ("source_class", pa.string()),
        ("identity", pa.string()),
        ("source_digest", pa.string()),
        ("synthesizer", pa.string()),
        ("fingerprint", pa.string()),
        ("target", pa.string()),
        ("intensity", pa.float64()),
        ("variant", pa.int32()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("faces", pa.int32()),
        ("score_identity", pa.float32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
"""Columns of the manifest; they are described at `Row`."""

_SETTINGS, _TALLY = b"expraug", b"expraug.tally"
ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the manifest. What is not known is None.

    Args:
        file: the synthetic face, relative to the manifest; in a tar or parquet file, that file's
            path and the name in it. None if none was written.
        source: where the source came from: its path relative to the source set, or "row 17".
        source_class: the source's class, in the source set's own words.
        identity: who it shows, if the source set says.
        source_digest: sha256 of the source file's bytes, hexadecimal.
        synthesizer: name of the synthesizer.
        fingerprint: its version, weights and configuration.
        target: expression asked for; None on the row of a source that was skipped whole.
        intensity: in (0, 1].
        variant: number of the variant, from 0.
        seed: that of the command.
        status: "made", "cached" or "skipped".
        reason: short code for why it was skipped; "" otherwise.
        message: the reason in words.
        faces: how many faces the source holds; the largest was used. None: not looked for.
        score_identity: cosine between source and synthetic face; None without a gate.
        width, height: of the source and the synthetic image, in pixels.
    """

    file: str | None
    source: str
    source_class: str
    identity: str | None
    source_digest: str | None
    synthesizer: str
    fingerprint: str
    target: str | None
    intensity: float | None
    variant: int | None
    seed: int
    status: str
    reason: str = ""
    message: str = ""
    faces: int | None = None
    score_identity: float | None = None
    width: int | None = None
    height: int | None = None


@dataclass
class Tally:
    """Counts that the rows of a manifest do not hold, kept in its metadata.

    Args:
        sources: sources that were worked on, by class folder.
        originals: sources that were copied along, by class folder.
        several: sources that hold several faces, by class folder.
        shards: faces per tar shard, by its path in the expanded set.
        formats: faces in tar shards, by suffix without dot.
    """

    sources: Counter[str] = field(default_factory=Counter)
    originals: Counter[str] = field(default_factory=Counter)
    several: Counter[str] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        for name, counts in vars(other).items():
            getattr(self, name).update(counts)


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Return rows as a table."""
    return pa.Table.from_pylist([values_of(row) for row in rows], SCHEMA)


class ManifestWriter:
    """Streams tables of rows into a parquet file.

    Args:
        path: the file.
        settings: JSON values that decide what is made; kept in the file for `read_settings`.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._schema = SCHEMA.with_metadata(
            {_SETTINGS: json.dumps(settings, sort_keys=True).encode()}
        )
        self._writer = pq.ParquetWriter(path, self._schema)
        self._tables: list[pa.Table] = []

    def append(self, table: pa.Table) -> None:
        """Add rows."""
        self._tables.append(table.replace_schema_metadata(self._schema.metadata))
        if sum(map(len, self._tables)) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._tables))
        self._tables.clear()

    def close(self, tally: Tally) -> None:
        """Write what is left, and the tally."""
        if self._tables:
            self._flush()
        counts = {name: dict(sorted(c.items())) for name, c in vars(tally).items()}
        self._writer.add_key_value_metadata({_TALLY: json.dumps(counts, sort_keys=True).encode()})
        self._writer.close()


def read_tables(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of a manifest, some thousands in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def read_tally(path: Path) -> Tally:
    """Return the tally of a manifest."""
    counts = json.loads(pq.read_metadata(path).metadata[_TALLY])
    return Tally(**{name: Counter(values) for name, values in counts.items()})


def read_settings(path: Path) -> dict[str, Any] | None:
    """Return the settings that a manifest was written with; None if they are not known."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        settings: dict[str, Any] = json.loads(metadata[_SETTINGS])
        return settings
    except (OSError, KeyError, ValueError):  # pyarrow's errors on damaged files are ValueErrors
        return None


def values_of(row: Row) -> dict[str, Any]:
    """Return the columns of a row."""
    values = ((name, getattr(row, name)) for name in SCHEMA.names)
    return {k: clean_text(v) if isinstance(v, str) else v for k, v in values}


def clean_text(value: str) -> str:
    """Return text that UTF-8 can hold: file names may carry bytes that are no text."""
    return value.encode("utf-8", "replace").decode()
