"""Where the inside of a mouth is painted."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from expraug.networks.mouth_painter import MouthPainter, load_mouth_painter


@lru_cache(maxsize=4)
def mouth_painter(device: str) -> MouthPainter:
    """Return the mouth painter, which has weights of its own."""
    return load_mouth_painter().to(device).requires_grad_(False)


def paint_mouths(
    faces: Tensor, landmarks: Tensor, interior: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what is painted into mouths and where, (B, 3, S, S) and (B, 1, S, S).

    Args:
        share: (B, 1, 1, 1), how much of each is painted. Where it is 0, on the CPU the painter is
            not asked: elsewhere the host would have to wait for that.
    """
    painter = mouth_painter(str(faces.device))
    if faces.device.type != "cpu":
        paint, matte = painter(faces, landmarks, interior)
        return paint, matte * share
    asked = (share[:, 0, 0, 0] > 0).nonzero()[:, 0]
    paint, matte = torch.zeros_like(faces), torch.zeros_like(faces[:, :1])
    if len(asked):
        some, where = painter(faces[asked], landmarks[asked], interior[asked])
        paint[asked], matte[asked] = some, where * share[asked]
    return paint, matte
