"""Landmarks of aligned faces."""

import numpy as np
import pytest
import torch
from PIL import Image

from expraug.faces import CropDetector, LandmarkDetector
from expraug.faces.align import align_image
from expraug.faces.read import read_face


@pytest.fixture
def tilted(happy_images):
    """A smiling crop, tilted by 30 degrees."""
    return [np.array(Image.fromarray(happy_images[0]).rotate(30, Image.Resampling.BICUBIC))]


def test_landmarks_are_read_where_a_face_should_be_else_looked_for(
    happy_images, tilted, monkeypatch
):
    image = happy_images[0]
    looked_for = []
    batch = LandmarkDetector._batch

    def counting(self, images, most):
        looked_for.extend(images)
        return batch(self, images, most)

    (found,) = LandmarkDetector("crop")([image])
    upright = align_image(image, found.points, 128)[None] / 255
    (wrong,) = CropDetector()([tilted[0]])
    turned = align_image(tilted[0], wrong.points, 128)[None] / 255
    monkeypatch.setattr(LandmarkDetector, "_batch", counting)
    read = read_face(upright)
    assert read.there.all()
    assert not looked_for
    assert np.abs(read.scores[0].numpy() - found.blendshapes).max() < 0.15
    again = read_face(torch.cat([upright, turned, torch.zeros_like(upright)]))
    assert again.there.tolist() == [True, True, False]
    assert len(looked_for) == 2
    assert [len(part) for part in read_face(upright[:0])] == [0, 0, 0]
    (there,) = LandmarkDetector("crop")([(upright[0].permute(1, 2, 0) * 255).byte().numpy()])
    assert np.abs(read.landmarks[0].numpy() * 128 - 0.5 - there.mesh).max() < 3
    (also,) = LandmarkDetector("crop")([(turned[0].permute(1, 2, 0) * 255).byte().numpy()])
    assert np.abs(again.landmarks[1].numpy() * 128 - 0.5 - also.mesh).max() < 1
    assert torch.equal(again.scores[0], read.scores[0])
    assert (again.scores[1] - read.scores[0]).abs().max() < 0.3
