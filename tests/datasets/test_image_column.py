from __future__ import annotations

import pickle
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expraug.datasets import image_column, open_source
from expraug.datasets.image_column import ImageColumn

ROWS = 97


@pytest.fixture
def values() -> list[bytes | None]:
    draw = random.Random(0)
    return [draw.randbytes(draw.randrange(1, 3000)) if i % 10 else None for i in range(ROWS)]


@pytest.fixture(params=[7, ROWS])
def path(request: pytest.FixtureRequest, tmp_path: Path, values: list[bytes | None]) -> Path:
    """A parquet file in many row groups, or in one."""
    rows = [
        {"image": v and {"bytes": v, "path": f"{i}.png"}, "label": "happy"}
        for i, v in enumerate(values)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=request.param)
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("room", [1 << 20, 20_000, 0])
def test_every_row_in_any_order(
    path: Path, values: list[bytes | None], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_column, "MAX_HELD_BYTES", room)
    column = ImageColumn(path, "image")
    assert len(column) == ROWS
    order = [*range(ROWS), *reversed(range(ROWS)), *random.Random(1).choices(range(ROWS), k=99)]
    for index in order:
        assert column[index] == (values[index] or b"")
        assert sum(column._sizes[group] for group in column._held) <= room
    again = pickle.loads(pickle.dumps(column))
    assert again[ROWS - 1] == (values[ROWS - 1] or b"")


def test_source(path: Path, values: list[bytes | None]) -> None:
    source = open_source(path)
    assert len(source) == ROWS
    items = [source[i] for i in range(ROWS)]
    assert [item.file for item in items] == [value or b"" for value in values]
    assert [item.stem for item in items[9:12]] == ["9", "row000010", "11"]


def test_images_without_paths(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"image": [{"bytes": b"a"}, {"bytes": b"b"}], "label": ["happy", "sad"]}),
        tmp_path / "a.parquet",
    )
    source = open_source(tmp_path / "a.parquet")
    assert [(source[i].stem, source[i].file) for i in (0, 1)] == [
        ("row000000", b"a"),
        ("row000001", b"b"),
    ]


@pytest.mark.shared
def test_memory_stays_bounded_on_a_large_file(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_column, "MAX_HELD_BYTES", 4 << 20)
    before = pa.total_allocated_bytes()
    source = open_source(shared / "data" / "lfw_expressions" / "train.parquet")
    most = 0
    for index in range(0, len(source), 50):
        source[index]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 16 << 20  # of 50 MB


def test_images_in_another_form_are_named(tmp_path: Path) -> None:
    table = pa.table({"image": [b"bytes alone"], "label": ["happy"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: the column 'image' holds binary"):
        open_source(tmp_path / "a.parquet")
