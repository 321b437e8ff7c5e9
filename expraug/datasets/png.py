"""Pixels that a data set keeps as numbers, as image files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """Return (H, W) or (H, W, 3) uint8 pixels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)  # 3 times faster than the default
    return file.getvalue()
