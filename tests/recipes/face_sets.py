"""The sets that classifiers learn from, small, of the sample faces."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from expraug.datasets import person_split
from recipes.real_faces import FER2013, FILES, LFW, LONDON

VOTES = {"neutral": 0, "happy": 1}
"""Columns of FER+'s votes."""


def person(split: str, number: int) -> str:
    """The name of a person of a split."""
    names = (f"person {i}" for i in range(1000))
    return [name for name in names if person_split(name) == split][number]


def votes(expression: str, agree: int, unknown: int = 0) -> list[int]:
    """Ten votes: so many for the expression, the rest for sad but one for fear."""
    counts = [0] * 10
    counts[VOTES[expression]] = agree
    counts[3], counts[6], counts[8] = 9 - agree - unknown, 1, unknown
    return counts


def write_sets(faces: Path, root: Path) -> Path:
    """Write the three sets as `recipes.real_faces` takes them, 20 or fewer images each."""
    images = [
        {"image": {"bytes": path.read_bytes(), "path": path.name}, "expression": name}
        for name in VOTES
        for path in sorted((faces / name).iterdir())
    ]
    fer: list[dict[str, Any]] = [
        row | {"votes": votes(row["expression"], 8), "duplicate_of": "a twin" if i == 0 else None}
        for i, row in enumerate(images)
    ]
    fer[1]["votes"] = votes("neutral", 2, unknown=7)
    broken = {"image": {"bytes": b"no image", "path": "x.png"}, "expression": "happy"}
    fer.append(fer[0] | broken)
    named = [
        row | {"identity": person("validation" if i % 10 < 3 else "train", i % 10)}
        for i, row in enumerate(images)
    ]
    files = {FILES[FER2013][0]: fer, FILES[FER2013][1]: fer[:8] + fer[10:13]}
    files |= {FILES[LFW][0]: named, FILES[LONDON][0]: named[:4]}
    for name, rows in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), root / name)
    return root
