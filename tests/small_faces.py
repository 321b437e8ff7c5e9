"""One person's sample faces, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FACES = Path(__file__).parents[1] / "examples" / "faces"


def small_face(expression: str, size: int = 64) -> np.ndarray:
    """Return the first sample face that shows an expression, (size, size, 3) uint8."""
    path = min((FACES / expression).glob("*.jpg"))
    return np.array(Image.open(path).convert("RGB").resize((size, size)))
