"""Untouched: are the pixels outside the face mask the source's own, bit by bit?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F

from expraug.evaluate.context import Context
from expraug.evaluate.result import Line, Result
from expraug.faces.align import invert, scale, similarity
from expraug.faces.composite import face_mask
from expraug.faces.detect import DetectedFace
from expraug.pipeline import SynthesisRequest

NAME = "untouched"
IMAGES = 20
"""Images that are compared, about, of all targets together."""
_GRID = 256  # side at which the mask is looked up, in pixels


@dataclass
class Untouched(Result):
    """Pixels outside the face mask, before and after the pipeline.

    Args:
        share: of them that are bit-identical; must be 1.
        pixels: how many were compared.
        images: that were changed.
    """

    share: float
    pixels: int
    images: int

    def lines(self) -> list[Line]:
        text = f"{self.share:.6f}" if self.share < 1 else "1"
        return [Line(NAME, "", text, f"{self.pixels:,} pixels", str(self.images))]


def faces_to_make(context: Context) -> int:
    """Return how many faces are made for this measure alone."""
    return sum(min(_per_target(context), len(context.sources(t))) for t in context.targets)


def measure(context: Context) -> Untouched:
    """Compare some images with what became of them at full intensity."""
    augmenter = context.augmenter
    same = pixels = images = 0
    for target in context.targets:
        indices = context.sources(target).indices[: _per_target(context)]
        for image, outcome in context.outcomes(SynthesisRequest(target), indices):
            (face,) = augmenter.detect([image])
            if outcome.target is None or face is None:
                continue
            outside = ~reach(image, face, augmenter.synthesizer.image_size)
            equal = np.atleast_3d(outcome.image == image).all(axis=2)
            same += int((equal & outside).sum())
            pixels += int(outside.sum())
            images += 1
    return Untouched(same / pixels if pixels else float("nan"), pixels, images)


def reach(image: np.ndarray, face: DetectedFace, size: int) -> np.ndarray:
    """Return which pixels of an image may change: (H, W) bool.

    It is found by geometry, not by compositing, which is under test: the face mask, wider by the
    pixel of the synthesizer's frame and the pixel of the image that interpolation may add.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        face: in it.
        size: side of the synthesizer's frame, in pixels.
    """
    matrix = similarity(face.points[None].astype(np.float64))[0]
    margin = math.ceil(_GRID * (1 / size + 1 / scale(matrix, 1)))
    mask = (face_mask(_GRID) > 0).float()
    wide = F.max_pool2d(F.pad(mask, (margin,) * 4), 2 * margin + 1, 1, margin)[0].numpy() > 0
    inverse = invert(matrix[None])[0]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    column, row = (
        np.floor((a * x + b * y + c) * _GRID).astype(int) + margin for a, b, c in inverse
    )
    there = (row >= 0) & (row < len(wide)) & (column >= 0) & (column < len(wide))
    return np.asarray(there & wide[row.clip(0, len(wide) - 1), column.clip(0, len(wide) - 1)])


def _per_target(context: Context) -> int:
    return max(1, IMAGES // max(1, len(context.targets)))
