"""Open mouths for the mouth painter, small enough to be sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.mouth_painter.data import Mouths, open_mouths
from recipes.mouth_painter.drawing import drawing_weights
from recipes.mouth_painter.learn import held_out, taught
from recipes.pairs.packed import Arrays, pack_faces, unpack_faces

_PLACE = 256  # steps of a pixel of the window
QUALITY = 85
"""Of the windows, as WebP: what the painter is taught is not to be softer than photographs."""
_COLUMNS = ("origin", "split", "person")


def packed_mouths(data: Path, real_faces: Path, most: int) -> Arrays:
    """Return what the painter learns from, and is watched by, as arrays that compress well.

    Args:
        data, real_faces: as `recipes.real_faces` takes them.
        most: mouths that are learned from; rare openings are kept rather than others.
    """
    mouths, _ = open_mouths(data, real_faces, real_faces / "mouths")
    learned = taught(mouths)
    if len(learned) > most:
        generator = torch.Generator().manual_seed(0)
        weights = drawing_weights(learned)
        learned = learned.take(torch.multinomial(weights, most, generator=generator))
    return pack_mouths([learned, held_out(mouths)])


def pack_mouths(parts: list[Mouths]) -> Arrays:
    """Return grey mouths as arrays."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name).numpy() for part in parts])

    places = {k: np.round(joined(k) * _PLACE).astype(np.int16) for k in ("upper", "lower")}
    others = {name: joined(name).astype(np.int32) for name in _COLUMNS}
    return pack_faces(joined("pixels"), QUALITY) | places | others


def unpack_mouths(packed: Arrays) -> Mouths:
    """Return the mouths that `pack_mouths` packed."""
    upper, lower = (
        torch.from_numpy(packed[name].astype(np.float32)) / _PLACE for name in ("upper", "lower")
    )
    kept: dict[str, Tensor] = {n: torch.from_numpy(packed[n].astype(np.int64)) for n in _COLUMNS}
    return Mouths(
        pixels=torch.from_numpy(unpack_faces({k: packed[k] for k in ("stream", "length")})),
        upper=upper,
        lower=lower,
        gap=(lower[:, 5] - upper[:, 5]).norm(dim=1),
        width=(upper[:, -1] - upper[:, 0]).norm(dim=1),
        **kept,
    )
