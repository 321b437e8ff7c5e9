import sys
import time

import numpy as np
import pytest
import torch
from crop_augmenter import with_mean_face
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.faces.align import TEMPLATE, align, scale, similarity
from expraug.faces.composite import face_mask, mask_box, paste_back
from expraug.faces.detect import CROP_POINTS, CropDetector, DetectedFace
from expraug.faces.frame import frame
from expraug.faces.synthesized import SynthesizedFaces


def setting(side, turn=0.0, size=160):
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (TEMPLATE - 0.5) @ (side * rotation).T + size / 2
    matrix = similarity(points[None] - 0.5)
    return matrix, mask_box(matrix[0], size, size)


@settings(max_examples=25, deadline=None)
@given(st.integers(24, 150), st.floats(-0.6, 0.6), st.sampled_from([1, 3]), st.integers(0, 2**31))
def test_outside_the_mask_every_bit_is_the_sources(side, turn, channels, seed):
    matrix, box = setting(side, turn)
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (1, channels, 160, 160), dtype=torch.uint8, generator=generator)
    change = torch.rand(1, 3, 128, 128, generator=generator) * 2 - 1
    patch = paste_back(image, SynthesizedFaces(change), matrix, box)
    top, left, bottom, right = box
    assert patch.shape == (1, channels, bottom - top, right - left)
    # where the mask, carried to the image, is 0
    full = SynthesizedFaces(torch.ones_like(change))
    carried = paste_back(torch.zeros_like(image), full, matrix, box) > 0
    region = image[:, :, top:bottom, left:right]
    assert torch.equal(patch[~carried], region[~carried])
    outside = torch.ones(160, 160, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert outside.any() or side > 130  # a large face, turned, fills the image
    # nothing that the mask covers lies outside of the box
    whole = (0, 0, 160, 160)
    everywhere = paste_back(
        torch.zeros_like(image), SynthesizedFaces(torch.ones_like(change)), matrix, whole
    )
    assert not everywhere[:, :, outside].any()


def test_no_change_leaves_every_pixel():
    matrix, box = setting(100, 0.2)
    nothing = SynthesizedFaces(torch.zeros(2, 3, 128, 128))
    image = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    patch = paste_back(image, nothing, matrix.repeat(2, 0), box)
    assert torch.equal(patch, image[:, :, box[0] : box[2], box[1] : box[3]])


def test_a_change_comes_back_where_it_was_made(neutral_images):
    """Aligning the pasted image shows the changed face."""
    image = torch.from_numpy(neutral_images[0]).permute(2, 0, 1)[None]
    points = TEMPLATE * 170 + 40
    matrix = similarity(points[None])
    assert scale(matrix[0], 128) > 1
    box = mask_box(matrix[0], 256, 256)
    before = align(image.float() / 255, matrix, 128)
    spot = torch.zeros(1, 3, 128, 128)
    spot[:, :, 80:110, 50:80] = 0.2
    made, pasted = SynthesizedFaces(spot), image.clone()
    pasted[:, :, box[0] : box[2], box[1] : box[3]] = paste_back(image, made, matrix, box)
    after = align(pasted.float() / 255, matrix, 128)
    middle = (after - before)[:, :, 84:106, 54:76]
    assert abs(float(middle.mean()) - 0.2) < 0.02
    assert (after - before)[:, :, :70].abs().max() < 0.01


def test_mask_is_solid_on_the_face_and_gone_at_the_edge():
    mask = face_mask(128)[0]
    for x, y in TEMPLATE:
        assert mask[int(y * 128), int(x * 128)] == 1
    edge = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not edge.any()


@pytest.mark.parametrize("turn", [0.0, 0.35])
def test_strips_are_the_whole(turn, monkeypatch):
    matrix, box = setting(120, turn)
    image = torch.randint(0, 256, (1, 3, 160, 160), dtype=torch.uint8)
    change = torch.rand(1, 3, 64, 64) - 0.5
    whole = paste_back(image, SynthesizedFaces(change), matrix, box)
    module = sys.modules[align.__module__]  # the package has a function of that name
    monkeypatch.setattr(module, "CPU_CACHE_BYTES", 3 * 160 * 4 * 7)  # seven rows
    assert torch.equal(paste_back(image, SynthesizedFaces(change), matrix, box), whole)


@pytest.mark.parametrize("turn", [0, 20])
def test_work_on_a_huge_face_is_bounded(neutral_images, turn):
    """A face of 4,000 pixels looks as the same face of 500 does, and takes seconds at most."""
    small = Image.fromarray(neutral_images[0]).resize((500, 500), Image.Resampling.BICUBIC)
    small = small.rotate(turn, Image.Resampling.BICUBIC)
    large = np.array(small.resize((4000, 4000), Image.Resampling.BICUBIC))
    angle = np.deg2rad(-turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    class Known(CropDetector):
        landmarks = True

        def __call__(self, images):
            points = (CROP_POINTS - 0.5) * 0.8 @ rotation.T + 0.5
            known = ((points * len(i) - 0.5).astype(np.float32) for i in images)
            return [with_mean_face(DetectedFace(of_image)) for of_image in known]

    augmenter = ExpressionAugmenter("pixel", alignment=Known())
    request = SynthesisRequest("happy")
    (expected,) = augmenter([np.array(small)], [request])
    start = time.process_time()
    (made,) = augmenter([large], [request])
    assert time.process_time() - start < 3
    assert made.target is not None
    reduced = np.array(Image.fromarray(made.image).reduce(8)).astype(int)
    assert abs(reduced - expected.image).mean() < 1
    (face,) = Known()([large])
    assert max(frame(large, face, 128).reduced.shape) <= 6 * 1.5 * 128
