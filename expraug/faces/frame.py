"""A face cut out of its image, as the pipeline works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from expraug.faces.align import invert, reduce, scale, similarity, supersampling
from expraug.faces.composite import mask_box
from expraug.faces.detect import DetectedFace
from expraug.faces.pixels import Pixels, cut_out, sides
from expraug.faces.synthesized import FLOW_FRAME


@dataclass(frozen=True, slots=True)
class FramedFace:
    """A face cut out of its image.

    Args:
        pixels: part of the image: all that can change, and all that a flow can reach.
        matrix: (2, 3) float64, from the canonical frame to these pixels (`align.similarity`).
        reduced, reduced_matrix: the canonical frame alone, no larger than the aligned face needs
            it.
        origin: (top, left) of the pixels in the image.
        boxes: (top, left, bottom, right) in the pixels that can change: without a flow, with one.
        size: side of the aligned face, in pixels.
        down: samples per side that a pixel takes when the face is aligned.
        group: decides which others it can be batched with on the CPU.
        face: in the image.
    """

    pixels: Pixels
    matrix: np.ndarray
    reduced: Pixels
    reduced_matrix: np.ndarray
    origin: tuple[int, int]
    boxes: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]
    size: int
    down: int
    group: tuple[Any, ...]
    face: DetectedFace

    def box(self, moves: bool) -> tuple[int, int, int, int]:
        """Return the (top, left, bottom, right) pixels that can change; `moves` with a flow."""
        return self.boxes[moves]

    def patch_origin(self, moves: bool) -> tuple[int, int]:
        """Return the (top, left) of that box in the image."""
        top, left, _, _ = self.boxes[moves]
        return self.origin[0] + top, self.origin[1] + left


DETAILED = 1.5
"""Image pixels on one of an aligned face from which a larger one shows more."""
LARGEST = 256
"""Side from which no larger face is aligned, in pixels."""
_NEARLY = 4
"""Off the CPU an image of which a square is more than one in so many parts is not cut."""
_MARGIN = 2  # pixels beside a square that its interpolation sees


def frame(image: Pixels, face: DetectedFace, size: int, size_agnostic: bool = False) -> FramedFace:
    """Cut a face out of its image.

    Args:
        image: the image.
        face: in it.
        size: side of the synthesizer's aligned faces, in pixels.
        size_agnostic: it takes faces of any side: detailed images are given larger ones.
    """
    matrix = similarity(face.points[None].astype(np.float64))[0]
    while size_agnostic and size < LARGEST and scale(matrix, size) > DETAILED:
        size *= 2
    # only the canonical frame's surroundings are worked on, however large the photograph
    inner, inner_matrix, _ = _cut_out(image, matrix, (0, 1))
    reduced, reduced_matrix = reduce(inner, inner_matrix, size)
    pixels, matrix, origin = _cut_out(image, matrix, FLOW_FRAME)
    down = supersampling(scale(reduced_matrix, size))
    boxes = mask_box(matrix, *sides(pixels)), mask_box(matrix, *sides(pixels), moves=True)
    group = (size, down, tuple(pixels.shape), tuple(reduced.shape), boxes)
    return FramedFace(
        pixels, matrix, reduced, reduced_matrix, origin, boxes, size, down, group, face
    )


def _cut_out(
    image: Pixels, matrix: np.ndarray, ends: tuple[float, float]
) -> tuple[Pixels, np.ndarray, tuple[int, int]]:
    """Cut a square of the canonical frame's plane out of an image, with a few pixels around it.

    Args:
        image: the image.
        matrix: (2, 3), from the canonical frame to it.
        ends: of the square, in x and in y.

    Returns:
        The pixels, the matrix to them, and the (top, left) of them in the image.
    """
    corners = np.array([[x, y, 1.0] for x in ends for y in ends]) @ matrix.T
    left, top = (int(v) for v in np.maximum(np.floor(corners.min(axis=0)) - _MARGIN, 0))
    right, bottom = (int(v) for v in np.ceil(corners.max(axis=0)) + _MARGIN)
    if isinstance(image, Tensor) and image.device.type != "cpu":
        height, width = sides(image)
        if (min(bottom, height) - top) * (min(right, width) - left) * _NEARLY >= height * width:
            # whole images of one size are put together at once, others one after the other
            left, top, right, bottom = 0, 0, width, height
    moved = matrix.copy()
    moved[:, 2] -= (left, top)
    return cut_out(image, top, left, bottom, right), moved, (top, left)


def stack_landmarks(framed: Sequence[FramedFace]) -> dict[str, np.ndarray]:
    """Return landmarks, blendshapes and pose of B faces, as `Synthesizer.needs_landmarks` says.

    Raises:
        ValueError: a location without them.
    """
    landmarks, blendshapes, poses = [], [], []
    for face in framed:
        found = face.face
        if found.mesh is None or found.blendshapes is None or found.pose is None:
            raise ValueError("the detector found a face but no landmarks, which are needed here")
        inverse = invert(face.matrix[None])[0]
        inside = found.mesh.astype(np.float64) + 0.5 - face.origin[::-1]
        landmarks.append(inside @ inverse[:, :2].T + inverse[:, 2])
        blendshapes.append(found.blendshapes)
        poses.append(found.pose)
    return {
        "landmarks": np.stack(landmarks).astype(np.float32),
        "blendshapes": np.stack(blendshapes).astype(np.float32),
        "pose": np.stack(poses).astype(np.float32),
    }
