"""Small sets of the bundled sample faces."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

FACES = Path(__file__).parents[2] / "examples" / "faces"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def neutral() -> list[Path]:
    return sorted((FACES / "neutral").iterdir())


@pytest.fixture
def small_set(tmp_path: Path, neutral: list[Path]) -> Path:
    """Two neutral people, one happy one of the same name, and one that is bored."""
    root = tmp_path / "small"
    for name, source, target in [
        ("neutral", neutral[0], "ann.jpg"),
        ("neutral", neutral[1], "bob.jpg"),
        ("Happiness", FACES / "happy" / "london_022.jpg", "ann.jpg"),
        ("bored", neutral[2], "cid.jpg"),
    ]:
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / name / target)
    return root


@pytest.fixture
def parquet_set(tmp_path: Path, small_set: Path) -> Path:
    rows = [
        {
            "image": {"bytes": path.read_bytes(), "path": path.name},
            "expression": path.parent.name,
            "identity": path.stem,
        }
        for path in sorted(small_set.rglob("*.jpg"))
    ]
    rows.append({"image": None, "expression": "neutral", "identity": None})
    rows.append({"image": {"bytes": b"", "path": None}, "expression": None, "identity": "x"})
    path = tmp_path / "set.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path
