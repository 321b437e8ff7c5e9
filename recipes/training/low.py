"""The size at which a discriminator tells single real faces from synthetics."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms.v2.functional import resize

LOW = 48
"""In pixels a side: that of FER2013, so that sharpness tells nothing."""


def low(faces: Tensor) -> Tensor:
    """Return (B, 1, S, S) faces at `LOW` pixels a side."""
    small: Tensor = resize(faces, [LOW, LOW])
    return small
