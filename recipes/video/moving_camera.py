"""A video of a photograph under a moving camera: what moves in it, and how, is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class MovingCamera:
    """A video of a still face.

    Args:
        frames: (T, H, W, 3) uint8.
        times: of the frames, in seconds.
        matrices: (T, 2, 3), from the photograph's pixels to the frames'.
    """

    frames: np.ndarray
    times: np.ndarray
    matrices: np.ndarray

    def still(self, frame: int, points: np.ndarray) -> np.ndarray:
        """Return where (N, 2) points of a frame are in the photograph."""
        turn, shift = self.matrices[frame][:, :2], self.matrices[frame][:, 2]
        back: np.ndarray = (points - shift) @ np.linalg.inv(turn).T
        return back


def moving_camera(
    photographs: Sequence[np.ndarray],
    *,
    fps: float = 25.0,
    size: tuple[int, int] = (360, 480),
    sway: float = 0.08,
    noise: float = 4.0,
    seed: int = 0,
) -> MovingCamera:
    """Film photographs, one in each frame: the camera pans, comes closer and tilts, in slow waves.

    Args:
        photographs: (H, W, 3) uint8 of one size, a face that fills most of it; T times the same
            for a face that does not move.
        fps: frames per second of the video.
        size: (height, width) of the frames, in pixels.
        sway: how far it goes, as a share of the frame's height; 0 for a camera that stands still.
        noise: standard deviation of the sensor's noise, in grey levels.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    times = np.arange(len(photographs)) / fps
    side = photographs[0].shape[0]
    frames, matrices = [], []
    for time, photograph in zip(times, photographs, strict=True):
        wave = np.sin(2 * np.pi * time * np.array([0.31, 0.43, 0.23, 0.37]) + np.arange(4))
        scale = 0.8 * height / side * (1 + sway * wave[2])
        angle = 0.8 * sway * wave[3]
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([width, height]) / 2 + sway * height * wave[:2]
        matrix = np.column_stack([turn, middle - turn @ (side / 2, side / 2)])
        back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        affine = back.ravel().tolist()
        picture = Image.fromarray(photograph).transform(
            (width, height), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC,
            fillcolor=(96, 104, 112),
        )  # fmt: skip
        seen = np.asarray(picture) + noise * rng.standard_normal((height, width, 3))
        frames.append(seen.round().clip(0, 255).astype(np.uint8))
        matrices.append(matrix)
    return MovingCamera(np.stack(frames), times, np.stack(matrices))
