"""Landmarks and expression scores of faces that are aligned already."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from expraug.faces.landmarks import SURE, LandmarkDetector, read_aligned

_EYES, _MOST_TILT = (33, 263), math.radians(10)  # outer corners; an aligned face's are level


class ReadFaces(NamedTuple):
    """What was read off B aligned faces.

    Args:
        landmarks: (B, 478, 2), (x, y) as fractions of the frame's side.
        scores: (B, 52) blendshape scores in [0, 1].
        there: (B,) bool, whether there is a face; where not, the rest says nothing.
    """

    landmarks: Tensor
    scores: Tensor
    there: Tensor


def read_face(faces: Tensor) -> ReadFaces:
    """Read landmarks and scores off aligned faces; where one is badly aligned, look for it.

    Args:
        faces: (B, 3, S, S) float in [0, 1], aligned.
    """
    landmarks, scores, sure = read_aligned(faces)
    # cloned, as what inference mode returns cannot be written to outside it
    landmarks, scores, there = landmarks.clone(), scores.clone(), sure.clone() >= SURE
    across = landmarks[:, _EYES[1]] - landmarks[:, _EYES[0]]
    tilted = torch.atan2(across[:, 1], across[:, 0]).abs() > _MOST_TILT
    lost = (~there | tilted).nonzero()[:, 0].tolist()
    if lost:
        found = _detector(str(faces.device))(_pixels(faces[lost]))
        for i, face in zip(lost, found, strict=True):
            if face is not None and face.mesh is not None and face.blendshapes is not None:
                landmarks[i] = torch.as_tensor(face.mesh + 0.5).to(landmarks) / faces.shape[-1]
                scores[i], there[i] = torch.as_tensor(face.blendshapes).to(scores), True
    return ReadFaces(landmarks, scores, there)


@cache
def _detector(device: str) -> LandmarkDetector:
    return LandmarkDetector("crop", device)


def _pixels(faces: Tensor) -> list[Tensor]:
    """Return (3, S, S) uint8 images of (B, 3, S, S) faces in [0, 1]."""
    return list((faces.detach().nan_to_num() * 255).round().clamp(0, 255).to(torch.uint8))
