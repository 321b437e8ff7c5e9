"""Real faces with their landmarks, as the pipeline hands them to `transfer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from expraug.faces import LandmarkDetector, align_image
from expraug.faces.frame import frame, stack_landmarks
from expraug.networks.face_mesh import load_face_landmarker

if TYPE_CHECKING:
    from recipes.real_faces import Faces

CORNERS = (61, 291)
"""Of the mouth, left and right in the image."""
UPPER_LIDS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133),
    (263, 466, 388, 387, 386, 385, 384, 398, 362),
)
LOWER_LIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133),
    (263, 249, 390, 373, 374, 380, 381, 382, 362),
)
Known = dict[str, Tensor]


def read(images: Sequence[np.ndarray]) -> tuple[Tensor, Known]:
    """Return (N, 3, 128, 128) aligned faces, and their landmarks, blendshapes and pose."""
    found = LandmarkDetector()(images)
    pairs = [(i, f) for i, f in zip(images, found, strict=True) if f is not None]
    faces = torch.stack([align_image(image, face.points, 128) for image, face in pairs]) / 255
    known = stack_landmarks([frame(image, face, 128) for image, face in pairs])
    return faces, {name: torch.from_numpy(values) for name, values in known.items()}


def neutral_people(images: Sequence[np.ndarray]) -> Faces:
    """Return neutral photographs of people, each of another, as `recipes.real_faces` has them."""
    # the recipes lie beside the package and are not installed
    from recipes.real_faces import LFW, Faces

    pictures, known = read(images)
    count = len(pictures)
    return Faces(
        crop=(pictures * 255).round().to(torch.uint8).numpy(),
        mesh=known["landmarks"].numpy(),
        scores=known["blendshapes"].numpy(),
        pose=known["pose"].numpy(),
        expression=np.zeros(count, int),
        votes=np.eye(8, dtype=np.float32)[np.zeros(count, int)],
        origin=np.full(count, LFW),
        row=np.arange(count),
        person=np.array([f"person {i}" for i in range(count)]),
        split=np.full(count, "train"),
        duplicate=np.zeros(count, bool),
        half=np.zeros(count, int),
    )


def repeated(known: Mapping[str, Tensor], row: int, count: int) -> Known:
    """Return what is known of one face, so many times."""
    return {n: v[row : row + 1].expand(count, *v.shape[1:]) for n, v in known.items()}


def moved(known: Mapping[str, Tensor], landmarks: Tensor) -> Known:
    """Return what is known of faces whose landmarks have moved: their scores follow."""
    with torch.no_grad():
        scores = load_face_landmarker().blendshapes(landmarks)
    return dict(known) | {"landmarks": landmarks, "blendshapes": scores.clone()}


def half_smile(neutral: Tensor, smile: Tensor) -> Tensor:
    """Return (B, 478, 2) neutral landmarks whose left half, in the image, smiles."""
    side = torch.sigmoid((0.5 - neutral[..., :1]) / 0.03)
    return neutral + side * (smile - neutral)


def with_shut_eyes(image: np.ndarray) -> np.ndarray:
    """Return an (H, W, 3) face whose upper lids have come down: the skin above is stretched."""
    (found,) = LandmarkDetector("crop")([image])
    assert found is not None
    assert found.mesh is not None
    mesh, made = found.mesh, image.copy()
    for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
        first, last = mesh[upper[0], 0], mesh[upper[-1], 0]
        for x in range(int(np.ceil(min(first, last))), int(max(first, last)) + 1):
            top, bottom = (
                np.interp(x, *mesh[sorted(lid, key=lambda i: mesh[i, 0])].T)
                for lid in (upper, lower)
            )
            start = top - 1.5 * (bottom - top)
            rows = np.arange(int(np.ceil(start)), int(np.ceil(bottom)) + 1)
            source = start + (rows - start) * (top - start) / max(bottom - start, 1e-6)
            above = np.floor(source).astype(int)
            share = (source - above)[:, None]
            column = image[above, x] * (1 - share) + image[above + 1, x] * share
            made[rows, x] = column.round().astype(np.uint8)
    return made
