"""What one step of a training on pairs and single faces sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.transforms.v2.functional import resize

LOW = 48
"""Side at which single faces are told from synthetics, in pixels; that of FER2013."""


@dataclass
class Batch:
    """What one step sees: B sources, the first P of which have a target.

    Args:
        source: (B, 1, S, S) float in [0, 1].
        category: (B,) long, asked for.
        target: (P, 1, S, S) float in [0, 1]: the same people, showing it.
        embedding: (B, D) unit vectors of the sources' identities.
        other: (B,) long, for each the place of somebody else in the batch; below P for those
            below P.
        real: (R, 1, S, S) float in [0, 1], single real faces.
        real_category: (R,) long, what they show.
        known: (B,) bool, at least one of them true: whether there are single real faces that
            show what is asked for. The others are not compared with them.
    """

    source: Tensor
    category: Tensor
    target: Tensor
    embedding: Tensor
    other: Tensor
    real: Tensor
    real_category: Tensor
    known: Tensor


def low(faces: Tensor) -> Tensor:
    """Return (B, 1, S, S) faces at `LOW` pixels a side."""
    small: Tensor = resize(faces, [LOW, LOW])
    return small
