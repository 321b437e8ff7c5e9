"""Where an identity encoder tells people apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expraug.datasets import person_split


@pytest.fixture
def two_splits(faces: Path, tmp_path: Path) -> Path:
    """The sample faces, five people under names of validation and five of test people."""
    names = [f"person {i}" for i in range(500)]
    renamed = [n for n in names if person_split(n) == "validation"][:5]
    renamed += [n for n in names if person_split(n) == "test"][:5]
    stems = sorted(path.stem for path in (faces / "neutral").iterdir())
    rows = sorted(faces.glob("*/*.jpg"))
    table = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in rows],
        "expression": [path.parent.name for path in rows],
        "identity": [renamed[stems.index(path.stem)] for path in rows],
    }
    file = tmp_path / "people.parquet"
    pq.write_table(pa.table(table), file)
    return file


def test_people_of_the_samples_are_told_apart(
    run_recipe: Callable[..., str], two_splits: Path
) -> None:
    out = run_recipe("identity.calibrate", two_splits)
    assert "validation: 10 faces of 5 people" in out
    assert "test: 10 faces of 5 people" in out
    assert "40 different pairs" in out
    area = re.search(r"area under ROC: ([\d.]+)", out)
    assert area is not None
    assert float(area[1]) > 0.98
    threshold = re.search(r"dlib-resnet: threshold ([\d.]+)", out)
    assert threshold is not None
    assert 0.85 < float(threshold[1]) < 0.98
    assert re.search(r"at the threshold .*same person [\d.]+ \[.*different people [\d.]+", out)
