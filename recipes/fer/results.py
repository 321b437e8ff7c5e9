"""The table of results: a CSV to which every run appends its rows."""

from __future__ import annotations

import csv
import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expraug.expressions import Expression

PIPELINE, ALIGNED = "pipeline", "aligned-64px"
"""How the synthetic faces of a row were made: by the product's pipeline on the original images; or,
in rows of old, by a path of the recipe's own on aligned grey faces of 64 px, which no user has. The
two are never compared."""

COLUMNS = (
    *("setting", "path", "condition", "seed", "test_set"),
    *("accuracy", "balanced_accuracy", "macro_f1", "ece"),
    *(f"recall_{e}" for e in Expression),
    *("train_faces", "dropped", "extra", "extra_by_class", "seconds", "options", "digest"),
)


def done(out: Path) -> set[tuple[str, str, str, str]]:
    """Return setting, condition, seed and digest of the runs whose rows are there."""
    rows = (row for row in read_results(out) if row["path"] == PIPELINE)
    return {(r["setting"], r["condition"], r["seed"], r["digest"]) for r in rows}


def read_results(out: Path) -> list[dict[str, str]]:
    """Return the rows of a results CSV; none where there is no file yet."""
    if not out.is_file():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def append(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows; several processes may do so at once."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)
