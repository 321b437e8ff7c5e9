"""A sheet of people with every expression."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from recipes.sheet import chosen, main

FACES = sorted((Path(__file__).parents[2] / "examples/faces/neutral").glob("*.jpg"))


def test_each_row_is_a_person_of_the_split_with_seven_expressions(tmp_path):
    rows = [
        {
            "image": {"bytes": file.read_bytes(), "path": file.name},
            "expression": expression,
            "identity": file.stem,
        }
        for file in FACES
        for expression in ("neutral", "happy")
    ]
    data, out = tmp_path / "people.parquet", tmp_path / "sheet.png"
    pq.write_table(pa.Table.from_pylist(rows), data)
    items = chosen(data, 2, "test", seed=0)
    assert len({item.identity for item in items}) == len(items) == 2
    assert all(item.class_name == "neutral" for item in items)
    main("transfer", [data], out, count=2, side=64)
    sheet = np.asarray(Image.open(io.BytesIO(out.read_bytes())))
    assert sheet.shape == (2 * 64, 8 * 64, 3)
    source, *made = np.split(sheet[:64].astype(int), 8, axis=1)
    assert all(abs(cell - source).mean() > 1 for cell in made)
