"""The face mesh of 478 landmarks: its parts, its frames, and the samples that draw it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import Delaunay

from expraug.faces.synthesized import FLOW_FRAME
from expraug.synthesizers.transfer.reading import TEXTURE_FRAME

LANDMARKS = 478
LOWER_IN = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_IN = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
"""The inner lips, corner to corner."""
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
STABLE = (33, 133, 362, 263, 168, 6, 197, 10, 109, 338, 127, 356, 234, 454, 21, 251)
"""Points that expressions hardly move: lid corners, bridge of the nose, hairline and temples."""
STABLE_WEIGHTS = (2, 2, 2, 2, 2, 2, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
CENTRE = (0.5, 0.55)
RINGS = ((1.22, 0.55), (1.55, 0.0))
"""Two rings of vertices around the face: distance from the centre as a multiple of the oval's, and
the share of the oval's displacement that they take, so that a change fades out."""
EYE_LEFT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
EYE_RIGHT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""Left and right in the image."""
IRIS = (468, 469, 471, 473, 474, 476)  # centres and the horizontal rim
LIDS = ((159, 386), (145, 374))
"""Upper and lower lids, left and right in the image."""

_NAMES = (
    "_neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff "
    "cheekSquintLeft cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight "
    "eyeLookInLeft eyeLookInRight eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight "
    "eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight "
    "mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel "
    "mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker "
    "mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft "
    "mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight "
    "noseSneerLeft noseSneerRight"
)
_SCORES = _NAMES.split()  # MediaPipe's blendshapes, in its order
MIRRORED_SCORES = np.array(
    [
        _SCORES.index(n.replace("Left", "@").replace("Right", "Left").replace("@", "Right"))
        for n in _SCORES
    ]
)
"""Which blendshape score each becomes when a face is flipped."""

LIP_FOLLOWERS = (((0.0, 0.03, 0.09), (1.0, 1.0, 0.0)), ((0.0, 0.07, 0.2), (1.0, 1.0, 0.8)))
"""By depth above or below the inner lips, as a fraction of the frame: how much follows them."""
CHEEK_WIDTH = 0.1
"""Beside the corners of the mouth, this far away, nothing follows."""
LOW, HIGH = TEXTURE_FRAME
"""The texture frame spans this range of the canonical frame, in both directions."""
TEXTURE = 112
"""Side of the texture frame in texels."""
MOUTH_SHAPE = (22, 44)
"""Rows and columns of a mouth interior."""


def stabilise(mesh: np.ndarray, reference: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Align (N, 478, 2) meshes by the points that expressions do not move.

    Returns the aligned meshes and the (16, 2) reference, by default the mean of those points.
    """
    points = mesh[:, list(STABLE)]
    reference = points.mean(0) if reference is None else reference
    w = np.asarray(STABLE_WEIGHTS, float) / np.sum(STABLE_WEIGHTS)
    source_mean, target_mean = np.einsum("k,nkd->nd", w, points), w @ reference
    s, d = points - source_mean[:, None], reference - target_mean
    size = np.einsum("k,nkd,nkd->n", w, s, s)
    a = np.einsum("k,nkd,kd->n", w, s, d) / size
    b = np.einsum("k,nk->n", w, s[..., 0] * d[:, 1] - s[..., 1] * d[:, 0]) / size
    turn = np.stack([np.stack([a, -b], 1), np.stack([b, a], 1)], 1)
    shift = target_mean - np.einsum("nij,nj->ni", turn, source_mean)
    return np.einsum("nij,nkj->nki", turn, mesh) + shift[:, None], reference


def mirror_index(mean: np.ndarray) -> np.ndarray:
    """Return which landmark each becomes when a face is flipped, from a mean frontal mesh."""
    distance = ((flip(mean)[:, None] - mean[None]) ** 2).sum(-1)
    mirror: np.ndarray = linear_sum_assignment(distance)[1]
    return mirror


def flip(points: np.ndarray) -> np.ndarray:
    """Return (..., 2) canonical points flipped left to right."""
    return points * [-1, 1] + [1, 0]


def vertices(mesh: np.ndarray) -> np.ndarray:
    """Return (..., 478, 2) meshes with the two rings around them: (..., 550, 2)."""
    c = np.asarray(CENTRE)
    oval = mesh[..., list(OVAL), :]
    return np.concatenate([mesh] + [c + far * (oval - c) for far, _ in RINGS], -2)


def opening(mesh: np.ndarray) -> np.ndarray:
    """Return how far the inner lips are apart, (...), as a fraction of the canonical frame."""
    lower, upper = mesh[..., list(LOWER_IN)[3:-3], 1], mesh[..., list(UPPER_IN)[3:-3], 1]
    gap: np.ndarray = (lower - upper).mean(-1)
    return gap


def lip_followers(reference: np.ndarray) -> np.ndarray:
    """Return how far each landmark goes along when a lip parts from the other.

    A lip keeps its thickness, the chin follows the lower one, and the nose stays.

    Args:
        reference: (478, 2) mesh with an open mouth.

    Returns:
        (2, 478, 9), for the upper and the lower lip and each pair of inner landmarks between the
        corners: a share of what their gap grows by, downwards.
    """
    x, y = reference.T
    found = np.zeros((2, len(reference), len(UPPER_IN) - 2))
    middle = np.interp(x, x[list(UPPER_IN)], (y[list(UPPER_IN)] + y[list(LOWER_IN)]) / 2)
    for lip, (inner, sign, share) in enumerate(((UPPER_IN, -1, 0.2), (LOWER_IN, 1, 0.8))):
        knots = x[list(inner)]
        depth = sign * (y - np.interp(x, knots, y[list(inner)]))
        beside = np.maximum(np.maximum(knots[0] - x, x - knots[-1]), 0)
        fade = np.interp(depth, *LIP_FOLLOWERS[lip]) * np.clip(1 - beside / CHEEK_WIDTH, 0, 1)
        fade *= (sign * (y - middle) > 0) | np.isin(np.arange(len(x)), inner)
        other = list(LOWER_IN if lip == 0 else UPPER_IN)[1:-1]
        fade[other] = 0
        for k in range(1, len(knots) - 1):
            hat = np.interp(np.clip(x, knots[1], knots[-2]), knots, np.eye(len(knots))[k])
            found[lip, :, k - 1] = sign * share * fade * hat
        found[lip, list(inner)] = 0
        found[lip, list(inner)[1:-1]] = sign * share * np.eye(len(knots) - 2)
    return found


def mouth_polygon(reference: np.ndarray) -> np.ndarray:
    """Return the outline of the mouth's interior."""
    return reference[list(LOWER_IN) + list(UPPER_IN)[::-1]]


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Say which (N, 2) points are in a polygon, by the parity of edges to their right."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, 0).T
    x, y = points[:, :1], points[:, 1:]
    straddles = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        right = x < (x1 - x0) * (y - y0) / (y1 - y0) + x0
    odd: np.ndarray = (straddles & right).sum(1) % 2 == 1
    return odd


def barycentric(
    triangles: Delaunay, points: np.ndarray, simplex: np.ndarray, vertex: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (S, 3) vertex numbers and weights of points in their triangles."""
    transform = triangles.transform[simplex]
    two = np.einsum("nij,nj->ni", transform[:, :2], points - transform[:, 2])
    weights = np.concatenate([two, 1 - two.sum(1, keepdims=True)], 1)
    return vertex[triangles.simplices[simplex]], weights


def face_samples(
    reference: np.ndarray, side: int, frame: tuple[float, float] = (LOW, HIGH)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample the face without the mouth's interior on a raster.

    Args:
        reference: (478, 2) mesh with an open mouth.
        side: texels along each side.
        frame: the raster's range in the canonical frame, in both directions.

    Returns:
        (S, 3) vertex numbers, (S, 3) weights and (S,) texel numbers.
    """
    all_vertices = vertices(reference)
    used = [i for i in range(len(all_vertices)) if i < 468 or i in IRIS or i >= LANDMARKS]
    vertex = np.array(used)
    triangles = Delaunay(all_vertices[vertex])
    low, high = frame
    axis = (np.arange(side) + 0.5) / side * (high - low) + low
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    simplex = triangles.find_simplex(points)
    keep = (simplex >= 0) & ~inside(mouth_polygon(reference), points)
    return *barycentric(triangles, points[keep], simplex[keep], vertex), np.flatnonzero(keep)


def mouth_frame(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the rectangle around the mouth's interior, in canonical units."""
    polygon = mouth_polygon(reference)
    low, high = polygon.min(0), polygon.max(0)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def mouth_samples(
    reference: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sample the mouth's interior by triangles between the two lips.

    Returns:
        (S, 3) vertex numbers, (S, 3) weights, (S, 2) points and (S,) places in `MOUTH_SHAPE`.
    """
    vertex = np.array(sorted(set(LOWER_IN) | set(UPPER_IN)))
    low, high = mouth_frame(reference)
    rows, columns = MOUTH_SHAPE
    x = (np.arange(columns) + 0.5) / columns * (high[0] - low[0]) + low[0]
    y = (np.arange(rows) + 0.5) / rows * (high[1] - low[1]) + low[1]
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    triangles = Delaunay(reference[vertex])
    simplex = triangles.find_simplex(points)
    keep = (simplex >= 0) & inside(mouth_polygon(reference), points)
    weights = barycentric(triangles, points[keep], simplex[keep], vertex)
    return *weights, points[keep], np.flatnonzero(keep)


def to_texture(points: np.ndarray) -> np.ndarray:
    """Return canonical points in the texture frame's own [-1, 1]."""
    return (points - LOW) / (HIGH - LOW) * 2 - 1


def drawing_samples(reference: np.ndarray) -> dict[str, np.ndarray]:
    """Return the samples that the synthesizer draws a face with.

    Lips and eyes are sampled twice as densely, or lips come out jagged.

    Returns:
        "idx" and "bary" (S, 3), "uv" (S, 2) in the texture frame, "hole" (S,): 1 in the mouth, and
        "cell" (S,): how many texels a sample stands for.
    """

    def near(points: np.ndarray) -> np.ndarray:
        found = np.zeros(len(points), bool)
        for part, margin in (
            (LOWER_IN + UPPER_IN + (0, 17), 0.02),
            (EYE_LEFT, 0.012),
            (EYE_RIGHT, 0.012),
        ):
            box = reference[list(part)]
            above, below = points > box.min(0) - margin, points < box.max(0) + margin
            found |= (above & below).all(1)
        return found

    parts = []
    low, high = FLOW_FRAME
    coarse = round(TEXTURE * (high - low) / (HIGH - LOW))  # as dense as the texture
    for side, dense in ((coarse, False), (2 * coarse, True)):
        index, weights, texel = face_samples(reference, side, FLOW_FRAME)
        centre = np.stack([texel % side, texel // side], 1) + 0.5
        points = centre / side * (high - low) + low
        keep = near(points) == dense
        parts.append((index[keep], weights[keep], points[keep], 0.0, 0.25 if dense else 1.0))
    index, weights, points, _ = mouth_samples(reference)
    parts.append((index, weights, points, 1.0, 0.25))
    return {
        "idx": np.concatenate([p[0] for p in parts]),
        "bary": np.concatenate([p[1] for p in parts]),
        "uv": np.concatenate([to_texture(p[2]) for p in parts]),
        "hole": np.concatenate([np.full(len(p[0]), p[3]) for p in parts]),
        "cell": np.concatenate([np.full(len(p[0]), p[4]) for p in parts]),
    }


def drawn_mesh(reference: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a synthesizer that draws faces with `drawing_samples` keeps of the mesh, by the
    names of `TransferSynthesizer`'s buffers."""
    samples = drawing_samples(reference)
    triangles, of_sample = np.unique(samples["idx"], axis=0, return_inverse=True)
    return {
        "triangles": triangles,
        "sample_triangle": of_sample.reshape(-1),
        "barycentric": samples["bary"],
        "sample_texture": samples["uv"],
        "sample_hole": samples["hole"],
        "sample_area": samples["cell"],
        "oval": np.array(OVAL),
        "ring_radius": np.array([far for far, _ in RINGS]),
        "ring_share": np.array([share for _, share in RINGS]),
    }
