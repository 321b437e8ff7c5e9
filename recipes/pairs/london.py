"""Aligned pairs of faces of one person: photographs, and what `recipes.pairs.make_pairs` wrote."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from expraug.datasets import open_source
from expraug.datasets.source import iterate
from expraug.expressions import Expression
from expraug.faces import MTCNNDetector, align_image


def aligned_pairs(
    path: Path,
    size: int,
    expressions: tuple[Expression, ...] = (Expression.NEUTRAL, Expression.HAPPY),
) -> dict[str, dict[Expression, Tensor]]:
    """Return, by person, one aligned face for each expression: (3, size, size) float in [0, 1].

    People who lack one of the expressions, or whose face is not found, are left out.
    """
    faces: dict[str, dict[Expression, Tensor]] = defaultdict(dict)
    detector = MTCNNDetector("cuda" if torch.cuda.is_available() else "cpu")
    for item in iterate(open_source(path)):
        expression = Expression.parse(item.class_name)
        if expression not in expressions or item.identity is None:
            continue
        image = item.read()
        (location,) = detector([image])
        if location is None:
            print(f"{path}, {item.origin}: no face found, left out")
            continue
        face = align_image(image, location.points, size) / 255
        faces[item.identity].setdefault(expression, face)
    return {who: found for who, found in sorted(faces.items()) if len(found) == len(expressions)}


def grouped(path: Path, size: int, variant: int = 0) -> Iterator[dict[Expression, Tensor]]:
    """Yield, for each source in what `recipes.pairs.make_pairs` wrote, it and its targets: (3,
    size, size).

    Args:
        variant: of the targets.
    """
    group: dict[Expression, Tensor] = {}
    last = None
    for batch in pq.ParquetFile(path).iter_batches(256):
        for line in batch.to_pylist():
            if line["source"] != last and group:
                yield group
                group = {}
            last = line["source"]
            if line["variant"] in (None, variant):
                picture = Image.open(io.BytesIO(line["image"]["bytes"])).convert("RGB")
                face = pil_to_tensor(picture)[None].float() / 255
                if face.shape[-1] != size:
                    face = F.interpolate(face, size=(size, size), mode="area")
                group[Expression.parse(line["expression"])] = face[0]
    if group:
        yield group
