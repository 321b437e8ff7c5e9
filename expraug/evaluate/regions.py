"""Regions of the aligned face that measures look at by themselves."""

from __future__ import annotations

from torch import Tensor

REGIONS: dict[str, tuple[float, float, float, float]] = {
    "face": (0.0, 0.0, 1.0, 1.0),
    "mouth": (0.60, 0.25, 0.91, 0.75),
    "brows": (0.17, 0.18, 0.35, 0.82),
}
"""Top, left, bottom and right, as fractions of the aligned face."""


def region_of(faces: Tensor, region: str) -> Tensor:
    """Return one of `REGIONS` of (N, C, S, S) faces, at their own resolution: (N, C, h, w)."""
    side = faces.shape[-1]
    top, left, bottom, right = (round(share * side) for share in REGIONS[region])
    return faces[..., top:bottom, left:right]
