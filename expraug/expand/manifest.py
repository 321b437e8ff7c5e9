"""The manifest of an expansion: one row for each planned synthetic face and each skipped source."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = "manifest.parquet"
"""File name in the expanded set."""

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

_SETTINGS = b"expraug"
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the manifest. What is not known is None.

    Args:
        file: the synthetic face, relative to the manifest; None if none was written.
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
        faces: how many faces the source holds; the largest was used.
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


class ManifestWriter:
    """Streams rows into a temporary file that takes the manifest's name when the block is left.

    It does so also when an exception or Ctrl-C ends the block: what was made until then is listed.

    Args:
        folder: the expanded set.
        settings: JSON values that decide what is made; kept in the file for `read_settings`.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / MANIFEST
        self._partial = folder / f".{MANIFEST}.{uuid.uuid4().hex}.tmp"
        schema = SCHEMA.with_metadata({_SETTINGS: json.dumps(settings, sort_keys=True).encode()})
        self._writer = pq.ParquetWriter(self._partial, schema)
        self._rows: list[dict[str, Any]] = []

    def append(self, row: Row) -> None:
        """Add a row."""
        values = {k: _text(v) if isinstance(v, str) else v for k, v in asdict(row).items()}
        self._rows.append(values)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self._rows.clear()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._rows:
                self._flush()
            self._writer.close()
            os.replace(self._partial, self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Return the settings that a folder's manifest was written with; None if they are not known."""
    try:
        metadata = pq.read_schema(folder / MANIFEST).metadata or {}
        return json.loads(metadata[_SETTINGS])
    except (OSError, KeyError, ValueError):  # pyarrow's errors on damaged files are ValueErrors
        return None


def _text(value: str) -> str:
    """Return text that UTF-8 can hold: file names may carry bytes that are no text."""
    return value.encode("utf-8", "replace").decode()
