"""How a head is turned: its landmarks against the canonical mesh, as MediaPipe's face geometry."""

from __future__ import annotations

import math

import numpy as np

_NEAR = 1.0
_HEIGHT = 2 * _NEAR * math.tan(math.radians(63) / 2)
"""Height of the near plane of a camera with an upright field of view of 63 degrees."""


def head_pose(
    points: np.ndarray, size: tuple[int, int], canonical: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return yaw, pitch and roll, (3,) float32, in degrees.

    Args:
        points: (478, 3), (x, y) in pixels, counted from the picture's corner, and depth in the
            same unit.
        size: (height, width) of the picture.
        canonical: (468, 3), the mesh at rest, in cm.
        weights: (468,), how much each point counts.
    """
    height, width = size
    screen = points[:468].astype(np.float64) / (width, height, width)
    plane = np.array([_HEIGHT * width / height, _HEIGHT])
    screen[:, 0] = (screen[:, 0] - 0.5) * plane[0]
    screen[:, 1] = (0.5 - screen[:, 1]) * plane[1]
    screen[:, 2] *= plane[0]
    depth = screen[:, 2].mean()
    first = _fit(canonical, screen * (1, 1, -1), weights)[1]
    scale = first * _fit(canonical, _metric(screen, depth, first), weights)[1]
    rotation = _fit(canonical, _metric(screen, depth, scale), weights)[0]
    yaw = math.asin(min(1.0, max(-1.0, rotation[0, 2])))
    pitch = math.atan2(-rotation[1, 2], rotation[2, 2])
    roll = math.atan2(-rotation[0, 1], rotation[0, 0])
    return np.degrees([yaw, pitch, roll]).astype(np.float32)


def _metric(screen: np.ndarray, depth: float, scale: float) -> np.ndarray:
    """Return the points in space whose picture the screen shows, in a right-handed frame."""
    z = (screen[:, 2] - depth + _NEAR) / scale
    return np.stack([screen[:, 0] * z / _NEAR, screen[:, 1] * z / _NEAR, -z], 1)


def _fit(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Return rotation and scale of the weighted least-squares similarity (Umeyama 1991)."""
    share = (weights / weights.sum())[:, None]
    source = source - (source * share).sum(0)
    target = target - (target * share).sum(0)
    u, s, vt = np.linalg.svd((target * share).T @ source)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return u @ flip @ vt, float((s * flip.diagonal()).sum() / (source**2 * share).sum())
