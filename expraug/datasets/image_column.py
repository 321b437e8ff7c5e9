"""The images of a parquet file, row by row, without holding all of them in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_HELD_BYTES = 64 << 20
"""Images, encoded, that are held at a time."""

_ROWS_AT_ONCE = 16


class ImageColumn:
    """Gives the bytes of each row's image; b"" where there is none.

    The row groups read last are held, up to 64 MB together. A row group that alone has more is
    streamed: asking for its rows in order is cheap, going back in it reads it from its start. It
    pickles as its settings, and each process opens the file on its own.

    Args:
        path: the parquet file.
        column: name of a struct column with a field "bytes".
    """

    def __init__(self, path: Path, column: str) -> None:
        self.path, self.column = path, column
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        self._ends = list(accumulate(group.num_rows for group in groups))
        self._sizes = [_bytes_of(group, f"{column}.bytes") for group in groups]
        self._close()

    def _close(self) -> None:
        self._file: pq.ParquetFile | None = None
        self._held: OrderedDict[int, pa.Array] = OrderedDict()
        self._stream: Iterator[pa.RecordBatch] = iter(())
        self._streamed, self._batch, self._start = -1, pa.array([], pa.binary()), 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "column": self.column}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> bytes:
        group = bisect_right(self._ends, index)
        row = index - (self._ends[group - 1] if group else 0)
        whole = self._sizes[group] <= MAX_HELD_BYTES
        value = self._of_held(group, row) if whole else self._of_stream(group, row)
        return value.as_py() or b""

    def _open(self) -> pq.ParquetFile:
        if self._file is None:
            self._file = pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False)
        return self._file

    def _of_held(self, group: int, row: int) -> pa.Scalar:
        if group not in self._held:
            room = MAX_HELD_BYTES - self._sizes[group]
            while sum(self._sizes[g] for g in self._held) > room:
                self._held.popitem(last=False)
            table = self._open().read_row_group(group, [f"{self.column}.bytes"], use_threads=False)
            self._held[group] = _flat(table[self.column])
        self._held.move_to_end(group)
        return self._held[group][row]

    def _of_stream(self, group: int, row: int) -> pa.Scalar:
        if group != self._streamed or row < self._start:
            self._stream = self._open().iter_batches(
                _ROWS_AT_ONCE, [group], [f"{self.column}.bytes"], use_threads=False
            )
            self._streamed, self._batch, self._start = group, pa.array([], pa.binary()), 0
        while row >= self._start + len(self._batch):
            self._start += len(self._batch)
            self._batch = _flat(next(self._stream)[self.column])
        return self._batch[row - self._start]


def _flat(structs: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the only field of a struct column; nulls of the struct are nulls of the field."""
    if isinstance(structs, pa.ChunkedArray):
        structs = structs.combine_chunks()
    return pc.struct_field(structs, [0])


def _bytes_of(group: Any, path: str) -> int:
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema == path)
