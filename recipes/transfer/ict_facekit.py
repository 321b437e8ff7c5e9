"""The ICT-FaceKit's face (Li et al. 2020, "Learning Formation of Physically-Based Face Attributes")
at MediaPipe's landmarks, and its fit to the landmarks of photographs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from expraug.networks.face_mesh import load_face_landmarker
from recipes.transfer.mesh import LOWER_IN, UPPER_IN

MESH = 468
"""Landmarks without the irises, which the face does not carry."""
FACE = 9409
"""Vertices of the skin of the face; behind them come neck, mouth and eyes."""
LANDMARKS_68 = (
    *(127, 234, 93, 132, 58, 136, 149, 148, 152, 377, 378, 365, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 195, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
)
"""MediaPipe's landmark at each of the 68 points of iBUG."""
JAW = 17
"""The first of those lie on the outline, which each author draws elsewhere: not used."""
UPPER_LIP = {*UPPER_IN[1:-1], 185, 40, 39, 37, 0, 267, 269, 270, 409, 74, 73, 72, 11, 302, 303, 304}
UPPER_LIP |= {42, 41, 38, 12, 268, 271, 272, 184, 408, 183, 407}
LOWER_LIP = {*LOWER_IN[1:-1], 146, 91, 181, 84, 17, 314, 405, 321, 375, 90, 180, 85, 16, 315, 404}
LOWER_LIP |= {320, 89, 179, 86, 15, 316, 403, 319, 77, 96, 325, 307}
JAW_MOVES = 0.25
"""Share of the jaw's largest movement from which skin near the mouth is below the lips."""
NEAR_MOUTH = 4.0
"""Centimetres."""
IDENTITIES = 40
IDENTITY_PENALTY, EXPRESSION_PENALTY, NOISE = 100.0, 10.0, 0.4
"""Of weights in [0, 1] and landmarks in cm. With ICT's own penalty of identities, 1, a fit explains
expressions by them: R² .35 in place of .53 on training people."""
ROUNDS, SWEEPS = 3, 8


@dataclass(frozen=True)
class Kit:
    """A face that can be fitted.

    Args:
        base: (468, 3) the resting face in cm, x to the image's right, y up, z to the camera.
        identity: (40, 468, 3), expression: (F, 468, 3) displacements at weight 1.
        names: of the expressions.
        scale: cm for one canonical unit.
        residual: cm between MediaPipe's mesh and the vertices that stand for it, root mean square.
    """

    base: Tensor
    identity: Tensor
    expression: Tensor
    names: tuple[str, ...]
    scale: float
    residual: float

    def shape(self, name: str) -> Tensor:
        """Return an expression's displacement to the front, (478, 2) in canonical units."""
        flat = self.expression[self.names.index(name), :, :2] / self.scale
        return torch.cat([flat * flat.new_tensor([1, -1]), flat.new_zeros(10, 2)])


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return scale, rotation and shift of the least-squares similarity (Umeyama 1991)."""
    s, t = source - source.mean(0), target - target.mean(0)
    u, size, vt = np.linalg.svd(t.T @ s)
    sign = np.diag([1.0] * (len(vt) - 1) + [np.sign(np.linalg.det(u @ vt))])
    turn = u @ sign @ vt
    factor = float((size * sign.diagonal()).sum() / (s**2).sum())
    return factor, turn, target.mean(0) - factor * turn @ source.mean(0)


def load_kit(file: Path, indices: Path, rest: Tensor) -> Kit:
    """Return the kit with the mean resting face of photographs as its base.

    Which vertex stands for which landmark: MediaPipe's canonical mesh is laid over ICT's resting
    face by 51 of the 68 points, ICT's identities are fitted to it, and the nearest vertex is taken;
    near the mouth, the jaw says which lip a vertex belongs to.

    Args:
        file: `ict_facekit.npz`.
        indices: ICT's `vertex_indices.json`.
        rest: (478, 2) mean resting face to the front, canonical units.
    """
    saved = np.load(file)
    every = [str(n) for n in saved["names"]]
    neutral = saved["neutral"][:FACE].astype(np.float64)
    identity = saved["identity"][:, :FACE].astype(np.float64)
    expression = saved["expression"][:, :FACE].astype(np.float64)
    points = np.array(json.loads(indices.read_text())["idx_to_landmark_verts"])[JAW:]
    canonical = load_face_landmarker().canonical.double().numpy()
    mesh, vertex, residual = _correspond(
        canonical, neutral, identity, expression[every.index("jawOpen")], points
    )
    flat = rest[:MESH].numpy() * [1, -1]
    size, turn, shift = similarity(flat, mesh[:, :2])
    base = np.concatenate([size * flat @ turn.T + shift, mesh[:, 2:]], 1)
    moving = [i for i, n in enumerate(every) if not n.startswith(("Pupil", "eyeLook"))]
    return Kit(
        torch.from_numpy(base - base.mean(0)),
        torch.from_numpy(identity[:IDENTITIES, vertex]),
        torch.from_numpy(expression[moving][:, vertex]),
        tuple(every[i] for i in moving),
        size,
        residual,
    )


def _correspond(
    canonical: np.ndarray,
    neutral: np.ndarray,
    identity: np.ndarray,
    jaw: np.ndarray,
    points: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return MediaPipe's mesh in ICT's frame, (468, 3), the vertex of each landmark, (468,), and
    the distance that is left between them."""
    known = np.array(LANDMARKS_68)[JAW:]
    size, turn, shift = similarity(canonical[known], neutral[points])
    near = np.linalg.norm(neutral - neutral[points[48 - JAW :]].mean(0), axis=1) < NEAR_MOUTH
    below = np.abs(jaw[:, 1]) > JAW_MOVES * np.abs(jaw[:, 1]).max()
    allowed = (np.ones(len(neutral), bool), ~(near & below), ~(near & ~below))
    part = np.array([1 if i in UPPER_LIP else 2 if i in LOWER_LIP else 0 for i in range(MESH)])
    face = neutral
    for _ in range(4):
        mesh = size * canonical @ turn.T + shift
        vertex = np.empty(MESH, int)
        for k, there in enumerate(allowed):
            found = cKDTree(face[there]).query(mesh[part == k])[1]
            vertex[part == k] = np.flatnonzero(there)[found]
        vertex[known] = points
        size, turn, shift = similarity(canonical, face[vertex])
        mesh = size * canonical @ turn.T + shift
        basis = identity[:, vertex].reshape(len(identity), -1).T
        normal = basis.T @ basis + 0.5 * np.eye(len(identity))
        weight = np.linalg.solve(normal, basis.T @ (mesh - neutral[vertex]).ravel())
        face = neutral + np.tensordot(weight, identity, 1)
    residual = np.sqrt(((mesh - face[vertex]) ** 2).sum(1).mean())
    return mesh, vertex, float(residual)


def fit_kit(kit: Kit, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Fit pose, identity and expression to landmarks, by turns.

    The camera is far away: a scaled rotation, of which the first two rows are kept. Expressions
    stay within [0, 1], by coordinate descent.

    Args:
        landmarks: (N, 478, 2) in canonical units.

    Returns:
        (N, F) weights of the expressions, and (N, 2, 3) from cm to canonical units with y up.
    """
    y = landmarks[:, :MESH] * landmarks.new_tensor([1, -1]) * kit.scale
    basis = torch.cat([kit.identity, kit.expression])
    count, identities = len(basis), len(kit.identity)
    gram = torch.einsum("kpu,lpv->uvkl", basis, basis) / NOISE**2
    penalty = y.new_tensor([IDENTITY_PENALTY] * identities)
    penalty = torch.cat([penalty, y.new_full((count - identities,), EXPRESSION_PENALTY)])
    weight = y.new_zeros(len(y), count)
    shape = kit.base.expand(len(y), -1, -1)
    for _ in range(ROUNDS):
        camera, shift = _camera(shape, y)
        normal = torch.einsum("nau,nav,uvkl->nkl", camera, camera, gram) + penalty.diag()
        left = y - shift - kit.base @ camera.mT
        goal = torch.einsum("nau,npa,kpu->nk", camera, left, basis) / NOISE**2
        for _ in range(SWEEPS):
            for k in range(count):
                own = normal[:, k, k]
                others = (normal[:, k] * weight).sum(1) - own * weight[:, k]
                value = (goal[:, k] - others) / own
                weight[:, k] = value if k < identities else value.clamp(0, 1)
        shape = kit.base + torch.einsum("nk,kpu->npu", weight, basis)
    return weight[:, identities:], _camera(shape, y)[0] / kit.scale


def _camera(shape: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scaled rotations (N, 2, 3) and shifts (N, 1, 2) from (N, P, 3) to (N, P, 2)."""
    middle, y_middle = shape.mean(1, keepdim=True), y.mean(1, keepdim=True)
    x, z = shape - middle, y - y_middle
    affine = torch.linalg.solve(x.mT @ x, x.mT @ z).mT
    u, size, vt = torch.linalg.svd(affine, full_matrices=False)
    camera = size.mean(1)[:, None, None] * (u @ vt)
    return camera, y_middle - middle @ camera.mT


def displacement(kit: Kit, weight: Tensor, camera: Tensor) -> Tensor:
    """Return what expressions move under a camera, (N, 478, 2) in canonical units.

    Args:
        weight: (N, F).
        camera: (N, 2, 3) from `fit_kit`: of these faces, or of those that the expressions go to.
    """
    moved = torch.einsum("nk,kpu->npu", weight, kit.expression) @ camera.mT
    moved = moved * moved.new_tensor([1, -1])
    return torch.cat([moved, moved.new_zeros(len(moved), 10, 2)], 1)
