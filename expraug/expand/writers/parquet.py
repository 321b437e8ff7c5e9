"""Parquet in the image format of `datasets`, with labels by name and where each face came from."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from expraug.expand.manifest import SCHEMA, values_of
from expraug.expand.writers import Face, source_of

PROVENANCE = [
    name for name in SCHEMA.names if name not in ("file", "status", "reason", "message", "faces")
]
"""Columns of the manifest that each face carries along; those of an original are mostly null."""

_GROUP_BYTES = 16 << 20


class ParquetWriter:
    """Writes `data/faces-<chunk>.parquet`, originals and synthetic faces in one file.

    Columns: `image` (struct of bytes and path), `label` (a `datasets.ClassLabel`), `synthetic`
    (bool) and those of `PROVENANCE`. Row groups hold some 16 MB.

    Args:
        folder, staging, chunk, classes: as `create_writer` takes them.
    """

    def __init__(self, folder: Path, staging: Path, chunk: int, classes: Sequence[str]) -> None:
        self.name = f"data/faces-{chunk:06d}.parquet"
        self.path = folder / self.name
        self._partial = staging / f"{uuid.uuid4().hex}.parquet"
        self._schema = table_schema(classes)
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def stage(self, face: Face) -> Face:
        return face

    def append(self, face: Face) -> str:
        data = face.data if isinstance(face.data, bytes) else face.data.read_bytes()
        if face.row is None:
            about = dict.fromkeys(PROVENANCE) | source_of(face.item)
        else:
            about = {k: v for k, v in values_of(face.row).items() if k in PROVENANCE}
        image = {"bytes": data, "path": face.name}
        synthetic = face.row is not None
        self._rows.append({"image": image, "label": face.label, "synthetic": synthetic, **about})
        self._bytes += len(data)
        if self._bytes >= _GROUP_BYTES:
            self._flush()
        return f"{self.name}/{face.name}"

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._partial, self._schema)
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._partial, self.path)

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._partial.unlink(missing_ok=True)


def table_schema(classes: Sequence[str]) -> pa.Schema:
    """Return the columns, with the features that `datasets` reads from the metadata."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [("image", image), ("label", pa.int64()), ("synthetic", pa.bool_())]
    fields += [(name, SCHEMA.field(name).type) for name in PROVENANCE]
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    for name, kind in fields[2:]:
        word = {"double": "float64", "float": "float32"}.get(str(kind), str(kind))
        features[name] = {"dtype": word, "_type": "Value"}
    about = json.dumps({"info": {"features": features}})
    return pa.schema(fields, metadata={"huggingface": about})
