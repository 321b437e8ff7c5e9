"""Whether warming keeps its word: how many faces it makes, and how long, against what it told.

    python -m recipes.benchmarks.warm FER2013/train.parquet [--number 1000] [--synthesizer transfer]
        [--workers 0] [--device cpu] [--json OUT]

Takes images that are spread evenly over the set, warms a new cache in a temporary folder, and
prints what `warm` told at the start beside what came of it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from torch.utils.data import Dataset

from expraug import ExpressionAugmenter, LabelScheme
from expraug.datasets import open_source


class Faces(Dataset[tuple[np.ndarray, str]]):
    """Some images of a source set, with their class names."""

    def __init__(self, path: Path, number: int) -> None:
        self.source = open_source(path)
        count = len(self.source)
        self.indices = np.linspace(0, count - 1, min(number, count)).round().astype(int)
        self.scheme = LabelScheme.from_classes(self.source.classes)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        item = self.source[int(self.indices[index])]
        return item.read(), item.class_name


def main(
    source: Annotated[Path, typer.Argument(help="parquet file, or a folder of class folders")],
    number: Annotated[int, typer.Option(min=1)] = 1000,
    synthesizer: str = "transfer",
    workers: Annotated[int, typer.Option(min=0)] = 0,
    device: str = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    faces = Faces(source, number)
    with tempfile.TemporaryDirectory() as folder:
        augmenter = ExpressionAugmenter(synthesizer, cache=folder, device=device)
        report = augmenter.warm(faces, num_workers=workers)
        assert augmenter.cache is not None
        kinds = augmenter.cache.info().fingerprints.values()
        name = str(augmenter.fingerprint)
        entries = next((kind.entries for kind in kinds if kind.name == name), 0)
    figures = {
        "images": len(faces),
        "planned": report.planned,
        "entries": entries,
        "made": report.made,
        "there_already": report.cached,
        "estimate_seconds": round(report.estimate, 1),
        "seconds": round(report.seconds, 1),
        "ratio": round(report.seconds / report.estimate, 2),
    }
    for name, value in figures.items():
        print(f"{name:>16} {value:,}")
    print(f"{'skipped':>16} {dict(report.skipped)}")
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
