"""Small pictures as text, to be put into a page."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from expraug.faces.image import read_image

SIDE = 160
"""Pixels of a thumbnail's longer side."""


def thumbnail(image: Path | bytes | np.ndarray, side: int = SIDE) -> str | None:
    """Return a picture as a data URI; None where there is nothing that can be decoded.

    Args:
        image: an image file, its bytes, or (H, W) or (H, W, 3) uint8.
        side: pixels of the longer side at most.
    """
    try:
        array = image if isinstance(image, np.ndarray) else read_image(image)
        small = Image.fromarray(array)
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        out = BytesIO()
        small.save(out, "JPEG", quality=85)
    except Exception:  # whatever a decoder raises on damage: the page shows the others
        return None
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
