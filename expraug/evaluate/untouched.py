"""Untouched: are the pixels outside the face mask the source's own, bit by bit?

Of a synthesizer that returns a flow it is the flow's mask, which takes in the jaw and the neck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F

from expraug.evaluate.context import Context
from expraug.evaluate.result import Line, Result
from expraug.faces.align import invert, scale, similarity
from expraug.faces.composite import FLOW_CELL, face_mask, flow_mask
from expraug.faces.detect import DetectedFace
from expraug.faces.synthesized import FLOW_FRAME
from expraug.pipeline import SynthesisRequest
from expraug.synthesizer import Synthesizer

NAME = "untouched"
IMAGES = 20
"""Images that are compared, about, of all targets together."""
_GRID = 256  # side at which the mask is looked up, in pixels


@dataclass
class Untouched(Result):
    """Pixels outside the face mask, or the flow's mask, before and after the pipeline.

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
    # the base class returns no flow
    moves = type(augmenter.synthesizer).synthesize is not Synthesizer.synthesize
    for target in context.targets:
        indices = context.sources(target).indices[: _per_target(context)]
        for image, outcome in context.outcomes(SynthesisRequest(target), indices):
            (face,) = augmenter.detect([image])
            if outcome.target is None or face is None:
                continue
            outside = ~reach(image, face, augmenter.synthesizer.image_size, moves)
            equal = np.atleast_3d(outcome.image == image).all(axis=2)
            same += int((equal & outside).sum())
            pixels += int(outside.sum())
            images += 1
    return Untouched(same / pixels if pixels else float("nan"), pixels, images)


def reach(image: np.ndarray, face: DetectedFace, size: int, moves: bool = False) -> np.ndarray:
    """Return which pixels of an image may change: (H, W) bool.

    It is found by geometry, not by compositing, which is under test: the mask, wider by the pixel
    of the synthesizer's frame, or of its flow, and the pixel of the image that interpolation may
    add.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        face: in it.
        size: side of the synthesizer's frame, in pixels.
        moves: it may return a flow.
    """
    matrix = similarity(face.points[None].astype(np.float64))[0]
    low, high = FLOW_FRAME if moves else (0.0, 1.0)
    finest = _GRID / (high - low)
    margin = math.ceil(finest * ((FLOW_CELL if moves else 1 / size) + 1 / scale(matrix, 1)))
    mask = ((flow_mask if moves else face_mask)(_GRID) > 0).float()
    wide = F.max_pool2d(F.pad(mask, (margin,) * 4), 2 * margin + 1, 1, margin)[0].numpy() > 0
    inverse = invert(matrix[None])[0]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    column, row = (
        np.floor((a * x + b * y + c - low) * finest).astype(int) + margin for a, b, c in inverse
    )
    there = (row >= 0) & (row < len(wide)) & (column >= 0) & (column < len(wide))
    return np.asarray(there & wide[row.clip(0, len(wide) - 1), column.clip(0, len(wide) - 1)])


def _per_target(context: Context) -> int:
    return max(1, IMAGES // max(1, len(context.targets)))
