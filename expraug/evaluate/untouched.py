"""Untouched: are the pixels outside the face mask the source's own, bit by bit?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from expraug.evaluate.context import Context
from expraug.evaluate.result import Line, Result
from expraug.faces import paste_back
from expraug.faces.detect import DetectedFace
from expraug.faces.frame import frame
from expraug.pipeline import SynthesisRequest
from expraug.synthesizer import Synthesizer

NAME = "untouched"
IMAGES = 20
"""Images that are compared, about, of all targets together."""


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
            outside = ~reach(image, face, augmenter.synthesizer)
            equal = np.atleast_3d(outcome.image == image).all(axis=2)
            same += int((equal & outside).sum())
            pixels += int(outside.sum())
            images += 1
    return Untouched(same / pixels if pixels else float("nan"), pixels, images)


def reach(image: np.ndarray, face: DetectedFace, synthesizer: Synthesizer) -> np.ndarray:
    """Return which pixels of an image compositing may change: (H, W) bool."""
    framed = frame(image, face, synthesizer.image_size, synthesizer.size_agnostic)
    top, left, bottom, right = framed.box
    black = torch.zeros(1, 1, *framed.pixels.shape[:2], dtype=torch.uint8)
    # the largest change there is, from black to white: where even that rounds to 0, none arrives
    change = torch.ones(1, 3, framed.size, framed.size)
    inside = paste_back(black, change, framed.matrix[None], framed.box)[0, 0].numpy() > 0
    reached = np.zeros(image.shape[:2], bool)
    row, column = framed.patch_origin
    reached[row : row + bottom - top, column : column + right - left] = inside
    return reached


def _per_target(context: Context) -> int:
    return max(1, IMAGES // max(1, len(context.targets)))
