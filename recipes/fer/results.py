"""The CSV of results, to which every run appends its rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expraug.expressions import Expression
from recipes.fer.metrics import OVERALL

COLUMNS = (
    *("setting", "net", "condition", "seed", "test_set"),
    *OVERALL,
    *(f"recall_{e}" for e in Expression),
    *(f"ap_{e}" for e in Expression),
    *("faces_by_class", "extra_faces", "options", "seconds", "device"),
)


def read_results(out: Path) -> list[dict[str, str]]:
    """Return the rows of a results CSV; none where there is no file yet."""
    if not out.is_file():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def append(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(
            {k: f"{v:.5f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
