"""Landmarks of aligned faces, by facial region, with the head's pose taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import xxhash
from torch import Tensor

from expraug.evaluate.context import Context
from expraug.faces.align import TEMPLATE
from expraug.faces.landmarks import SURE, read_aligned
from expraug.networks.face_mesh import load_face_landmarker

REGIONS: dict[str, tuple[int, ...]] = {
    "brows": (
        *(46, 53, 52, 65, 55, 70, 63, 105, 66, 107),
        *(276, 283, 282, 295, 285, 300, 293, 334, 296, 336),
    ),
    "eyes": (
        *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
        *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
    ),
    "nose": (
        *(195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 294, 278, 344, 440, 275, 45, 220, 115),
        *(48, 64, 129, 358),
    ),
    "mouth": (
        *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270),
        *(409, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311),
        *(310, 415),
    ),
    "jaw": (
        *(58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288),
        *(18, 175, 199, 200),
    ),
}
"""Landmarks by facial region, after the groups of MediaPipe's mesh topology (lips, eyes, eyebrows,
nose, oval); the jaw is the lower part of the oval, with the chin. Irises are left out: gaze is no
expression."""
FACE = "face"
"""Name of all regions together."""
_LEAST_FRONTAL = 0.5  # cosine of 60 degrees, beyond which half of the face is out of sight
_READ_AT_ONCE = 32


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of N faces.

    Args:
        points: (N, 468, 2) float64, (x, y) as fractions of the aligned face's side, as
            `without_pose` returns them.
        people: the N people they belong to.
    """

    points: np.ndarray
    people: list[str]

    def __len__(self) -> int:
        return len(self.people)

    def of(self, region: str) -> np.ndarray:
        """Return the points of a region, or of all (`FACE`), as rows: (N, D) float64."""
        chosen = [i for name, part in REGIONS.items() if region in (name, FACE) for i in part]
        return self.points[:, chosen].reshape(len(self), 2 * len(chosen))


def landmarks(context: Context, people: Sequence[str], *faces: Tensor) -> list[Landmarks]:
    """Read one or more photographs of each of N people.

    Args:
        context: remembers what was read of a face, whoever asks again.
        people: the N people.
        faces: (N, 3, S, S) uint8 each, aligned.

    Returns:
        As many as photographs were given, of the same people in the same order: those in all
        of whose photographs there is a face, turned away by no more than 60 degrees.
    """
    if not people:
        return [Landmarks(np.empty((0, 468, 2)), []) for _ in faces]
    rows = [per_face(context, "landmarks", part, _read) for part in faces]
    upright = [without_pose(part[:, 1:].reshape(-1, 478, 2)) for part in rows]
    there = np.ones(len(people), bool)
    for part, (_, frontal) in zip(rows, upright, strict=True):
        there &= (part[:, 0] >= SURE) & (frontal >= _LEAST_FRONTAL)
    kept = [people[i] for i in there.nonzero()[0].tolist()]
    return [Landmarks(points[there], kept) for points, _ in upright]


def _read(faces: Tensor) -> Tensor:
    points, _, sure = read_aligned(faces)
    return torch.cat([sure[:, None], points.flatten(1)], 1)


def without_pose(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn faces to the front, and move and scale them to one place.

    The canonical mesh is fitted in scaled orthographic projection, by least squares with the
    weights that the head's pose is found with, the jaw left out (the affine camera, then the
    rotation next to it). Every landmark is taken to be as deep as in that mesh.

    Of what was tried and needs no faces to be fitted on, it leaves the least difference between
    neutral photographs of one person (LFW): far less than the five points of the alignment, which
    also move with the mouth, or a similarity in the image plane on lids, bridge and temples.

    Args:
        points: (N, 478, 2), (x, y) as fractions of the aligned face's side.

    Returns:
        (N, 468, 2), in the same unit, in a frame that the canonical mesh's eyes give; and (N,),
        the cosine of the angle by which the face is turned away.
    """
    mesh, weights = _canonical()
    middle = np.einsum("k,nki->ni", weights, points[:, :468])
    seen = points[:, :468] - middle[:, None]
    spread = (mesh * weights[:, None]).T @ mesh
    camera = np.einsum("nki,k,kj->nij", seen, weights, mesh) @ np.linalg.inv(spread)
    u, size, vt = np.linalg.svd(camera, full_matrices=False)
    rotation = u @ vt
    frontal = rotation[:, :, :2]
    flat = seen / size.mean(1)[:, None, None] - mesh[:, 2, None] * rotation[:, None, :, 2]
    return np.einsum("nij,nkj->nki", np.linalg.pinv(frontal), flat), np.linalg.det(frontal)


@cache
def _canonical() -> tuple[np.ndarray, np.ndarray]:
    """Return the canonical mesh, (468, 3), x to the right, y down, z away, around its weighted
    middle and in the frame's unit; and the weights, (468,), with a sum of 1."""
    nets = load_face_landmarker()
    mesh = nets.canonical.double().numpy() * [1, -1, -1]
    weights = nets.weights.double().numpy().copy()
    weights[list(REGIONS["jaw"])] = 0
    weights /= weights.sum()
    left, right = mesh[[33, 133]].mean(0), mesh[[362, 263]].mean(0)
    mesh = (mesh - weights @ mesh) * (TEMPLATE[1, 0] - TEMPLATE[0, 0]) / (right - left)[0]
    return mesh, weights


def features(context: Context, faces: Tensor) -> np.ndarray:
    """Return the classifier's features, (N, D) float64, of (N, 3, S, S) uint8 aligned faces."""
    classifier = context.classifier
    name = f"features of {classifier.name}"
    return per_face(context, name, faces, lambda part: classifier.features(part).flatten(1))


def per_face(
    context: Context, name: str, faces: Tensor, read: Callable[[Tensor], Tensor]
) -> np.ndarray:
    """Return what a function reads off aligned faces; it is remembered by a face's bytes.

    Args:
        context: that remembers.
        name: of what is read.
        faces: (N, 3, S, S) uint8.
        read: maps (B, 3, S, S) float faces in [0, 1] to (B, D) numbers.

    Returns:
        (N, D) float64.
    """
    known: dict[bytes, np.ndarray] = context.once(("per face", name), dict)
    digests = [xxhash.xxh128_digest(face.contiguous().numpy()) for face in faces]
    missing = list({d: i for i, d in enumerate(digests) if d not in known}.values())
    for start in range(0, len(missing), _READ_AT_ONCE):
        part = missing[start : start + _READ_AT_ONCE]
        context.advance(f"reading {name}")
        with torch.inference_mode():
            rows = read(faces[part].float() / 255).double().cpu().numpy()
        known.update(zip((digests[i] for i in part), rows, strict=True))
    return np.array([known[digest] for digest in digests])
