"""A sheet of held-out people with every expression, to be looked at face by face.

    python -m recipes.sheet transfer --data LFW.parquet --data LONDON.parquet --out SHEET.png

Rows are people of the test split with a neutral photograph, of each set as many, among them people
with glasses and beards where `recipes/lfw_subgroups.csv` names them. The first column is the
source, the others are what the pipeline makes of it, ungated and unchecked, each with a variant of
its own; where nothing is made, the cell is grey.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.datasets import open_source, person_split
from expraug.datasets.source import FaceItem
from expraug.expressions import Expression
from expraug.faces.align import align_image

_SUBGROUPS = Path(__file__).parent / "lfw_subgroups.csv"


def people(path: Path, split: str, special: set[str]) -> dict[str, FaceItem]:
    """Return a neutral photograph of each person of a split, one of the special ones if it can."""
    found: dict[str, FaceItem] = {}
    source = open_source(path)
    for row in range(len(source)):
        item = source[row]
        neutral = Expression.parse(item.class_name) is Expression.NEUTRAL
        person = item.identity
        if not neutral or not person or person_split(person) != split:
            continue
        if person not in found or item.origin in special:
            found[person] = item
    return found


def chosen(path: Path, count: int, split: str, seed: int) -> list[FaceItem]:
    """Return so many people, half of them of the named subgroups where there are any."""
    with _SUBGROUPS.open() as file:
        named = {line["image"] for line in csv.DictReader(file)}
    there = people(path, split, named)
    names = sorted(there)
    np.random.default_rng(seed).shuffle(names)
    special = [name for name in names if there[name].origin in named]
    others = [name for name in names if there[name].origin not in named]
    half = special[: count // 2]
    return [there[name] for name in half + others[: count - len(half)]]


def cells(
    augmenter: ExpressionAugmenter, item: FaceItem, number: int, side: int
) -> list[np.ndarray]:
    """Return the source and its synthetics, (side, side, 3) uint8 each."""
    image = item.read()
    (face,) = augmenter.detect([image])
    grey = np.full((side, side, 3), 128, np.uint8)
    if face is None:
        return [grey]

    def cut(picture: np.ndarray) -> np.ndarray:
        aligned = align_image(picture, face.points, side).permute(1, 2, 0)
        return aligned.round().clamp(0, 255).to(torch.uint8).numpy()

    targets = [e for e in Expression if e is not Expression.NEUTRAL]
    requests = [
        SynthesisRequest(target, variant=(37 * (number * len(targets) + i)) % augmenter.variants)
        for i, target in enumerate(targets)
    ]
    outcomes = augmenter([image] * len(requests), requests)
    made = [grey if o.target is None else cut(np.asarray(o.image)) for o in outcomes]
    return [cut(image), *made]


def main(
    synthesizer: Annotated[str, typer.Argument(help="Name or folder.")],
    data: Annotated[list[Path], typer.Option(help="Sets with names.")],
    out: Annotated[Path, typer.Option(help="Picture to write.")],
    count: Annotated[int, typer.Option(help="People of all sets together.")] = 24,
    side: Annotated[int, typer.Option(help="Of each face, in pixels.")] = 256,
    split: str = "test",
    seed: int = 0,
) -> None:
    augmenter = ExpressionAugmenter(synthesizer, alignment="detect", check_landmarks=False)
    each = -(-count // len(data))
    items = [item for path in data for item in chosen(path, each, split, seed)]
    rows = [np.concatenate(cells(augmenter, item, i, side), 1) for i, item in enumerate(items)]
    widest = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0))) for row in rows]
    Image.fromarray(np.concatenate(rows)).save(out)
    print(f"{out}: {len(rows)} people")


if __name__ == "__main__":
    typer.run(main)
