"""How a head is turned: its landmarks against the canonical mesh, as MediaPipe's face geometry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_NEAR = 1.0
_HEIGHT = 2 * _NEAR * math.tan(math.radians(63) / 2)
"""Height of the near plane of a camera with an upright field of view of 63 degrees."""


def head_poses(
    points: np.ndarray, sizes: np.ndarray, canonical: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return yaw, pitch and roll of B heads, (B, 3) float32, in degrees.

    Args:
        points: (B, 478, 3), (x, y) in pixels, counted from the picture's corner, and depth in the
            same unit.
        sizes: (B, 2), (height, width) of their pictures.
        canonical: (468, 3), the mesh at rest, in cm.
        weights: (468,), how much each point counts.
    """
    height, width = np.asarray(sizes, np.float64).T
    screen = points[:, :468].astype(np.float64) / np.stack([width, height, width], 1)[:, None]
    across = (_HEIGHT * width / height)[:, None]
    screen[..., 0] = (screen[..., 0] - 0.5) * across
    screen[..., 1] = (0.5 - screen[..., 1]) * _HEIGHT
    screen[..., 2] *= across
    depth = screen[..., 2].mean(axis=1)
    first = _fit(canonical, screen * (1, 1, -1), weights)[1]
    scale = first * _fit(canonical, _metric(screen, depth, first), weights)[1]
    rotation = _fit(canonical, _metric(screen, depth, scale), weights)[0]
    return np.degrees([_angles(turn) for turn in rotation.tolist()]).astype(np.float32)


def _angles(rotation: list[list[float]]) -> list[float]:
    yaw = math.asin(min(1.0, max(-1.0, rotation[0][2])))
    pitch = math.atan2(-rotation[1][2], rotation[2][2])
    return [yaw, pitch, math.atan2(-rotation[0][1], rotation[0][0])]


def _metric(screen: np.ndarray, depth: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the points in space whose picture the screen shows, in a right-handed frame."""
    z = (screen[..., 2] - depth[:, None] + _NEAR) / scale[:, None]
    return np.stack([screen[..., 0] * z / _NEAR, screen[..., 1] * z / _NEAR, -z], 2)


def _fit(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return rotations, (B, 3, 3), and scales, (B,), of the weighted least-squares similarities
    (Umeyama 1991) from (N, 3) points to (B, N, 3)."""
    share = (weights / weights.sum())[:, None]
    source = source - (source * share).sum(0)
    target = target - (target * share).sum(1, keepdims=True)
    u, s, vt = np.linalg.svd((target * share).transpose(0, 2, 1) @ source)
    flip = np.ones((len(target), 3))
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    scale = (s * flip).sum(1) / (source**2 * share).sum()
    return (u * flip[:, None]) @ vt, scale
