"""Pairs that `transfer` made of real faces: each face, and what every expression does to it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.synthesizers.expression_maps import ExpressionMaps

FLOW_SIDE, LIGHTENING_SIDE = 96, 64
"""Of the maps; a frame of 128 pixels takes 64 of the flow, too."""


@dataclass
class Pairs:
    """N pairs of M faces of training people.

    Args:
        face: (M, 1, 128, 128) uint8, aligned, grey.
        mesh: (M, 478, 2) float32 landmarks in canonical units.
        shown: (M,) int64, what the face shows, a value of `Expression`.
        person: (M,) int64; where nobody knows who it is, each face is somebody else.
        photographed: (M,) int64, place of the same person's photograph with another expression; -1
            for none.
        source: (N,) int64, the face.
        target: (N,) int64, value of `Expression`.
        flow: (N, 2, 96, 96) float16, and
        lightening: (N, 1, 64, 64) float16,
        lips: (N, 2, 11, 2) float32,
        moved_lips: (N, 2, 11, 2) float32,
        interior: (N, 6, 12) float16: as `ExpressionMaps` has them.
        probability: (N,) float32, of the target, by a classifier of pictures.
    """

    face: np.ndarray
    mesh: np.ndarray
    shown: np.ndarray
    person: np.ndarray
    photographed: np.ndarray
    source: np.ndarray
    target: np.ndarray
    flow: np.ndarray
    lightening: np.ndarray
    lips: np.ndarray
    moved_lips: np.ndarray
    interior: np.ndarray
    probability: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def save(self, folder: Path) -> None:
        """Write each part as a file of a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for f in fields(self):
            np.save(folder / f"{f.name}.npy", getattr(self, f.name))

    @classmethod
    def load(cls, folder: Path) -> Pairs:
        """Return what `save` wrote; it stays on disk until it is read."""
        kept = {f.name: np.load(folder / f"{f.name}.npy", mmap_mode="r") for f in fields(cls)}
        return cls(**kept)

    def faces(self, rows: np.ndarray) -> Tensor:
        """Return the sources of some pairs, (B, 1, 128, 128) float in [0, 1]."""
        return torch.from_numpy(self.face[self.source[rows]]).float() / 255

    def maps(self, rows: np.ndarray) -> ExpressionMaps:
        """Return what some expressions do."""
        names = [f.name for f in fields(ExpressionMaps)]
        return ExpressionMaps(
            **{n: torch.from_numpy(getattr(self, n)[rows]).float() for n in names}
        )


def mirrored(maps: ExpressionMaps) -> ExpressionMaps:
    """Return what the expressions do to mirrored faces."""
    sign = maps.flow.new_tensor([-1.0, 1.0])
    lips, moved_lips = (
        points.flip(2) * sign + (1 - sign) / 2 for points in (maps.lips, maps.moved_lips)
    )
    return ExpressionMaps(
        maps.flow.flip(3) * sign.view(1, 2, 1, 1),
        maps.lightening.flip(3),
        lips,
        moved_lips,
        maps.interior.flip(2),
    )
