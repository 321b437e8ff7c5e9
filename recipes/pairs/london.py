"""Aligned photographs of people with several expressions."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

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
