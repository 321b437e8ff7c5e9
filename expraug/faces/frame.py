"""A face cut out of its image, as the pipeline works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from expraug.faces.align import invert, reduce, scale, similarity, supersampling
from expraug.faces.composite import mask_box
from expraug.faces.detect import DetectedFace
from expraug.faces.pixels import Pixels, cut_out, sides


@dataclass(frozen=True, slots=True)
class FramedFace:
    """A face cut out of its image.

    Args:
        pixels: part of the image.
        matrix: (2, 3) float64, from the canonical frame to these pixels (`align.similarity`).
        reduced, reduced_matrix: the same, no larger than the aligned face needs it.
        origin: (top, left) of the pixels in the image.
        box: (top, left, bottom, right) in the pixels that the paste-back mask can touch.
        size: side of the aligned face, in pixels.
        down, up: samples per side that a pixel takes when the face is aligned, and pasted back.
        group: decides which others it can be batched with on the CPU.
        face: in the image.
    """

    pixels: Pixels
    matrix: np.ndarray
    reduced: Pixels
    reduced_matrix: np.ndarray
    origin: tuple[int, int]
    box: tuple[int, int, int, int]
    size: int
    down: int
    up: int
    group: tuple[Any, ...]
    face: DetectedFace

    @property
    def patch_origin(self) -> tuple[int, int]:
        """(top, left) of the box in the image."""
        return self.origin[0] + self.box[0], self.origin[1] + self.box[1]


DETAILED = 1.5
"""Image pixels on one of an aligned face from which a larger one shows more."""
LARGEST = 256
"""Side from which no larger face is aligned, in pixels."""


def frame(image: Pixels, face: DetectedFace, size: int, size_agnostic: bool = False) -> FramedFace:
    """Cut a face out of its image.

    Args:
        image: the image.
        face: in it.
        size: side of the synthesizer's aligned faces, in pixels.
        size_agnostic: it takes faces of any side: detailed images are given larger ones.
    """
    matrix = similarity(face.points[None].astype(np.float64))[0]
    # only the canonical frame's surroundings are worked on, however large the photograph
    corners = np.array([[x, y, 1.0] for x in (0, 1) for y in (0, 1)]) @ matrix.T
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 2
    pixels = cut_out(image, int(top), int(left), int(bottom), int(right))
    matrix[:, 2] -= (left, top)
    box = mask_box(matrix, *sides(pixels))
    while size_agnostic and size < LARGEST and scale(matrix, size) > DETAILED:
        size *= 2
    reduced, reduced_matrix = reduce(pixels, matrix, size)
    down, up = supersampling(scale(reduced_matrix, size)), supersampling(1 / scale(matrix, size))
    group = (size, down, up, tuple(pixels.shape), tuple(reduced.shape), box)
    origin = (int(top), int(left))
    return FramedFace(
        pixels, matrix, reduced, reduced_matrix, origin, box, size, down, up, group, face
    )


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
