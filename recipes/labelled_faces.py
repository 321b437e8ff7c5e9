"""Real faces with labels, as the recipes that train on any sets take them.

A set is named by a parquet file or a folder of classes; `@detect` behind it finds the face in
photographs, else the images are face crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.datasets import open_source, person_split
from expraug.datasets.source import FaceItem, iterate
from expraug.errors import ExpraugError
from expraug.expressions import Expression
from expraug.faces import align, create_detector, similarity
from expraug.faces.composite import luminance
from recipes.splits import half_of_person, half_of_rows

SIZE = 64
EXPRESSIONS = tuple(Expression)[:7]  # contempt has too few faces to be learned


def wanted(item: FaceItem, row: int, rows: np.ndarray, half: int | None, split: str) -> bool:
    """Say whether an item is of the split, and of the half, that is asked for.

    Args:
        rows: the half of each row, if the set names nobody.
    """
    if item.identity is None:
        return half is None or rows[row] == half
    in_half = half is None or half_of_person(item.identity) == half
    return in_half and person_split(item.identity) == split


def aligned(
    name: str, half: int | None, split: str, size: int
) -> Iterator[tuple[FaceItem, Tensor | None]]:
    """Yield the items of a set, and their aligned faces, (1, size, size) uint8; None if lost."""
    path, _, mode = name.partition("@")
    detector = create_detector(mode or "crop")
    source = open_source(path)
    rows = half_of_rows(len(source))
    for row, item in enumerate(iterate(source)):
        expression = Expression.parse(item.class_name)
        if expression not in EXPRESSIONS or not wanted(item, row, rows, half, split):
            continue
        try:
            image = item.read()
        except ExpraugError:
            yield item, None
            continue
        (location,) = detector([image])
        if location is None:
            yield item, None
            continue
        pixels = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].float()
        face = align(pixels, similarity(location.points[None].astype("float64")), size)
        grey = luminance(face) if face.shape[1] == 3 else face
        yield item, grey[0].round().to(torch.uint8)


def prepare(name: str, half: int | None, split: str, size: int) -> dict[str, Tensor]:
    """Return the aligned faces of a set, (N, 1, size, size) uint8, and their expressions, (N,)."""
    faces, labels, lost = [], [], 0
    for item, face in aligned(name, half, split, size):
        if face is None:
            lost += 1
            continue
        faces.append(face)
        labels.append(int(Expression.parse(item.class_name)))
    counts = np.bincount(labels, minlength=len(EXPRESSIONS))
    print(f"{name} ({split}): {len(faces)} faces {counts.tolist()}, {lost} lost", flush=True)
    return {"faces": torch.stack(faces), "labels": torch.tensor(labels)}


def prepared(
    work: Path, name: str, half: int | None, split: str, size: int = SIZE
) -> dict[str, Tensor]:
    """Return what `prepare` does, from the work folder where it is there already."""
    other = "" if size == SIZE else f" {size}"
    key = xxhash.xxh64_hexdigest(f"{name} {half} {split}{other}".encode())
    file = work / f"faces-{key}.safetensors"
    if not file.is_file():
        save_file(prepare(name, half, split, size), file)
    return load_file(file)
