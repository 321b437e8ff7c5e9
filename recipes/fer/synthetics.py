"""Synthetic faces to train on, and which faces may be their sources."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from recipes.real_faces import Faces

LARGEST_YAW = 20.0
LEAST_AGREEMENT = 0.6


@dataclass
class Synthetics:
    """Synthetic faces, M of them.

    Args:
        pixels: (M, 48, 48) uint8.
        target: (M,) int64, what each shows, a value of `Expression`.
        source: (M,) int64, row in the training file.
        own: (M,) bool, whether the source has that label itself.
        seen: (M,) float32, probability of the target by the embedded FER classifier.
        intensity: (M,) float32.
    """

    pixels: np.ndarray
    target: np.ndarray
    source: np.ndarray
    own: np.ndarray
    seen: np.ndarray
    intensity: np.ndarray

    def __len__(self) -> int:
        return len(self.target)

    @classmethod
    def load(cls, file: Path) -> Synthetics:
        """Read what `make` wrote."""
        with np.load(file) as saved:
            return cls(**{f.name: saved[f.name] for f in fields(cls)})


def clear_rows(faces: Faces) -> np.ndarray:
    """Return the rows of the faces that look ahead and whose expression is agreed on."""
    ahead = np.abs(faces.pose[:, 0]) < LARGEST_YAW
    agreed = faces.votes.max(1) >= LEAST_AGREEMENT
    found: np.ndarray = faces.row[ahead & agreed]
    return found
