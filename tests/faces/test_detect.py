import pickle

import numpy as np
import pytest

from expraug.faces import CropDetector, MTCNNDetector, create_detector
from expraug.faces.detect import CROP_POINTS


def test_crop_points_follow_the_size():
    detector = CropDetector()
    small, wide = detector([np.zeros((48, 48), np.uint8), np.zeros((48, 96, 3), np.uint8)])
    assert np.allclose((small.points + 0.5) / 48, CROP_POINTS, atol=1e-6)
    assert np.allclose(wide.points[:, 0] + 0.5, 2 * (small.points[:, 0] + 0.5))
    with pytest.raises(ValueError, match="crop points"):
        CropDetector([[0, 0]])


def test_detects_every_sample_face(neutral_images):
    locations = MTCNNDetector()(neutral_images)
    for image, location in zip(neutral_images, locations, strict=True):
        left, right, nose, *mouth = location.points
        assert location.faces == 1
        assert 40 < right[0] - left[0] < 90
        assert left[1] < nose[1] < min(m[1] for m in mouth) < image.shape[0]


def test_largest_of_several_faces_and_none(neutral_images):
    small = neutral_images[1][::2, ::2]
    both = np.full((256, 400, 3), 200, np.uint8)
    both[:, :256] = neutral_images[0]
    both[60:188, 264:392] = small
    gradient = np.linspace(0, 255, 256).astype(np.uint8)
    nothing = np.repeat(gradient[:, None], 256, axis=1)
    several, none = MTCNNDetector()([both, nothing])
    assert several.faces == 2
    assert several.points[:, 0].max() < 256
    assert none is None


def test_grey_and_colour_in_one_batch_and_after_pickling(neutral_images):
    detector = MTCNNDetector(batch_size=3)
    grey = neutral_images[0].mean(axis=2).astype(np.uint8)
    first = detector([neutral_images[0], grey, neutral_images[1][:200]])
    assert all(first)
    assert np.abs(first[0].points - first[1].points).max() < 4
    again = pickle.loads(pickle.dumps(detector))([neutral_images[0]])
    assert np.abs(again[0].points - first[0].points).max() < 4


def test_unknown_mode():
    with pytest.raises(ValueError, match="'crop' or 'detect'"):
        create_detector("photo")
