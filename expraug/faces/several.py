"""Several faces in one picture: told apart, and small ones looked for in parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SAME_FACE = 0.5
"""Meshes whose boxes share more than this part of the smaller are of one face."""


class Part(NamedTuple):
    """A part of a picture, in pixels of it."""

    left: int
    top: int
    right: int
    bottom: int


def parts_of(height: int, width: int) -> list[Part]:
    """Return nine parts of half a picture's height and width, each half over its neighbours.

    A face of up to a quarter of the picture's sides lies in one of them whole.
    """
    starts = [(y, x) for y in (0, height // 4, height // 2) for x in (0, width // 4, width // 2)]
    return [Part(x, y, x + width - width // 2, y + height - height // 2) for y, x in starts]


def lies_in(mesh: np.ndarray, part: Part, height: int, width: int) -> bool:
    """Say whether a face is not cut by the edge of a part, unless the picture ends there too.

    Args:
        mesh: (N, 2 or 3), in pixels of the picture.
        part: where it was found.
        height, width: of the picture.
    """
    low, high = mesh[:, :2].min(0), mesh[:, :2].max(0)
    return bool(
        (low[0] >= part.left or part.left == 0)
        and (low[1] >= part.top or part.top == 0)
        and (high[0] <= part.right or part.right >= width)
        and (high[1] <= part.bottom or part.bottom >= height)
    )


def apart(meshes: Sequence[np.ndarray], known: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """Return the meshes, the largest first, without those that lie on a larger or a known one.

    Args:
        meshes: (N, 2 or 3) each, in pixels of one picture.
        known: other faces of the picture.
    """
    if len(meshes) < 2 and not known:
        return list(meshes)
    kept = list(known)
    for mesh in sorted(meshes, key=area_of, reverse=True):
        if not any(_same_face(mesh, other) for other in kept):
            kept.append(mesh)
    return kept[len(known) :]


def area_of(mesh: np.ndarray) -> float:
    """Return the area of the box around a mesh."""
    return float(np.ptp(mesh[:, :2], axis=0).prod())


def _same_face(one: np.ndarray, other: np.ndarray) -> bool:
    low = np.maximum(one[:, :2].min(0), other[:, :2].min(0))
    high = np.minimum(one[:, :2].max(0), other[:, :2].max(0))
    smaller = min(area_of(one), area_of(other))
    return float((high - low).clip(min=0).prod()) > _SAME_FACE * smaller
