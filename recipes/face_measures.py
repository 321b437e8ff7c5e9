"""What an edit of the expression should leave as it is: the light on a face, and its pose."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from expraug.faces.composite import face_mask
from expraug.faces.detect import DetectedFace

LIGHT = ("light, left", "light, right")
POSE = ("yaw", "pitch", "roll")


def light_of(grey: Tensor) -> Tensor:
    """Return mean luminance in [0, 1] of the left and the right half under the face mask, (N, 2).

    Args:
        grey: (N, 1, S, S) uint8, aligned.
    """
    mask = face_mask(grey.shape[-1])
    middle = grey.shape[-1] // 2
    splits = torch.stack([mask, mask])
    splits[0, ..., middle:] = 0
    splits[1, ..., :middle] = 0
    splits = splits.flatten(1) / splits.flatten(1).sum(1, keepdim=True)
    return torch.cat([part.flatten(1).float() / 255 @ splits.T for part in grey.split(1024)])


def mesh_of(grey: Tensor) -> Tensor:
    """Return landmarks as fractions of the frame, (N, 478, 2); nan where none are found.

    Args:
        grey: (N, 1, S, S) uint8, aligned.

    Raises:
        MissingDependencyError, MissingWeightsError: as `LandmarkDetector` does.
    """
    from expraug.networks.face_mesh import LANDMARKS

    points = torch.full((len(grey), LANDMARKS, 2), torch.nan)
    for i, face in _detected(grey):
        points[i] = (torch.from_numpy(face.mesh) + 0.5) / grey.shape[-1]
    return points


def pose_of(grey: Tensor) -> Tensor:
    """Return yaw, pitch and roll in degrees, (N, 3); nan where no landmarks are found.

    Args:
        grey: (N, 1, S, S) uint8, aligned.

    Raises:
        MissingDependencyError, MissingWeightsError: as `LandmarkDetector` does.
    """
    angles = torch.full((len(grey), 3), torch.nan)
    for i, face in _detected(grey):
        angles[i] = torch.from_numpy(face.pose)
    return angles


def _detected(grey: Tensor) -> Iterator[tuple[int, DetectedFace]]:
    from expraug.faces.landmarks import LandmarkDetector

    detector = LandmarkDetector("crop")
    for i, pixels in enumerate(grey):
        (face,) = detector([pixels[0].numpy()])
        if face is not None:
            yield i, face
