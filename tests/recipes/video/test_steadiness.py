"""What an edit adds to a still face hardly moves in a video."""

from __future__ import annotations

import numpy as np

from expraug import Expression, create_synthesizer
from recipes.video.moving_camera import moving_camera
from recipes.video.steadiness import displacements, trembling, ways


def test_a_video_trembles_less_than_its_frames(neutral_images: list[np.ndarray]) -> None:
    camera = moving_camera([neutral_images[0]] * 12)
    found = ways(camera)
    points = np.mgrid[80:180:5, 80:180:5].reshape(2, -1).T.astype(float)
    moved = {
        way: displacements(
            camera,
            found[way][0],
            points,
            create_synthesizer("transfer"),
            Expression.SURPRISE,
            settled=found[way][1],
        )
        for way in ("each frame alone", "and smoothed")
    }
    size = {way: float(np.abs(values).max()) for way, values in moved.items()}
    assert min(size.values()) > 8, "pixels: the mouth opens"
    shaking = {way: trembling(values, 256) for way, values in moved.items()}
    assert shaking["and smoothed"] < shaking["each frame alone"] / 2
