"""Write a parquet file as a folder with a sub-folder per class, as `recipes.fer.train` reads them.

    python -m recipes.fer.unpack fer2013/train.parquet FACES/train --label ferplus
    python -m recipes.fer.unpack fer2013/validation.parquet FACES/test --label ferplus --unique

Pixels stay as they are; faces without a label are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from datasets import ClassLabel, Dataset
from rich.progress import track


def main(
    file: Path,
    out: Path,
    label: Annotated[str, typer.Option(help="Column of the classes.")] = "expression",
    unique: Annotated[
        bool, typer.Option(help="Without the near-duplicates that the column duplicate_of names.")
    ] = False,
) -> None:
    faces = Dataset.from_parquet(str(file), keep_in_memory=True)
    if unique:
        faces = faces.filter(lambda other: other is None, input_columns="duplicate_of")
    kind = faces.features[label]
    names = faces[label]
    for row in track(range(len(faces)), "Writing", transient=True):
        name = names[row]
        if name is None:
            continue
        folder = out / (kind.int2str(name) if isinstance(kind, ClassLabel) else name)
        folder.mkdir(parents=True, exist_ok=True)
        faces[row]["image"].save(folder / f"{row:06}.png")


if __name__ == "__main__":
    typer.run(main)
