"""Write the bundled sample faces: people whom no fit or training of ours has seen.

    python -m recipes.make_samples --london LONDON.parquet --out examples/faces

Takes people of the test split (`expraug.datasets.person_split`) photographed with both
expressions, cuts each photograph to a square around the face and scales it to 256 px.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from expraug.datasets import FaceItem, open_source, person_split
from expraug.datasets.source import iterate
from expraug.faces import MTCNNDetector

SIZE = 256


def square(image: np.ndarray, points: np.ndarray) -> Image.Image:
    """Cut a square of 4.2 eye distances around the face, inside the photograph, at 256 px."""
    half = 2.1 * float(np.linalg.norm(points[1] - points[0]))
    x, y = points.mean(axis=0)
    half = min(half, x, y, image.shape[1] - x, image.shape[0] - y)
    box = (x - half, y - half, x + half, y + half)
    return Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box)


def main(
    london: Annotated[Path, typer.Option(help="Parquet with image, expression, identity.")],
    out: Path = Path("examples/faces"),
    people: int = 10,
) -> None:
    photographs: dict[str, list[FaceItem]] = defaultdict(list)
    for item in iterate(open_source(london)):
        if item.identity is not None and person_split(item.identity) == "test":
            photographs[item.identity].append(item)
    paired = sorted(who for who, items in photographs.items() if len(items) == 2)
    chosen = paired[:: max(len(paired) // people, 1)][:people]
    detector = MTCNNDetector()
    for who in chosen:
        for item in photographs[who]:
            image = item.read()
            (location,) = detector([image])
            if location is None:
                raise SystemExit(f"{item.origin}: no face found")
            file = out / item.class_name / f"{who}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            square(image, location.points).save(file, quality=92, subsampling=0)


if __name__ == "__main__":
    typer.run(main)
