"""Where eyes, nose and mouth are in a set of face crops: the default points of `alignment="crop"`.

    python -m recipes.measure_crop_points --faces FER2013.parquet [--count 600]

Prints the medians of MTCNN's five points as fractions of the crop's sides, and their spread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from expraug.datasets import open_source
from expraug.faces import MTCNNDetector


def main(faces: Annotated[Path, typer.Option(help="Set of face crops.")], count: int = 600) -> None:
    source, detector = open_source(faces), MTCNNDetector()
    points = []
    chosen = range(0, len(source), max(len(source) // count, 1))
    for index in chosen:
        image = source[index].read()
        (location,) = detector([image])
        if location is not None:
            points.append((location.points + 0.5) / (image.shape[1], image.shape[0]))
    print(f"faces found in {len(points)} of {len(chosen)} crops")
    for name, column in zip(
        ("left eye", "right eye", "nose", "mouth left", "mouth right"),
        np.stack(points, axis=1),
        strict=True,
    ):
        (x, y), (dx, dy) = np.median(column, axis=0), column.std(axis=0)
        print(f"{name:<12} x {x:.3f} ± {dx:.3f}   y {y:.3f} ± {dy:.3f}")


if __name__ == "__main__":
    typer.run(main)
