"""Faces whose parts move."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug.faces.warp import pixel_grid, resized, sample, warp


def test_pixels_lie_where_grid_sample_has_them() -> None:
    images = torch.rand(2, 3, 16, 16)
    assert torch.allclose(sample(images, pixel_grid(16, images)), images, atol=1e-5)
    assert pixel_grid(2, images)[0, :, 0, 1].tolist() == [0.5, -0.5], "x to the right, y down"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([8, 16, 32]), st.sampled_from([16, 32]))
def test_what_does_not_move_stays_to_the_bit(seed: int, flow: int, side: int) -> None:
    torch.manual_seed(seed)
    images = torch.rand(2, 3, side, side)
    assert torch.equal(warp(images, torch.zeros(2, 2, flow, flow)), images)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-2, 1)])
def test_a_flow_leads_to_what_is_shown(right: int, down: int) -> None:
    images = torch.rand(1, 1, 16, 16)
    flow = torch.tensor([2 * right / 16, 2 * down / 16]).view(1, 2, 1, 1).expand(1, 2, 16, 16)
    shown = images.roll((-down, -right), (2, 3))
    assert torch.allclose(warp(images, flow)[..., 4:12, 4:12], shown[..., 4:12, 4:12], atol=1e-5)


def test_larger_faces_move_as_far() -> None:
    torch.manual_seed(0)
    blobs = F.interpolate(torch.rand(1, 1, 4, 4), (64, 64), mode="bicubic")
    flow = F.interpolate(0.2 * torch.randn(1, 2, 3, 3), (16, 16), mode="bicubic")
    moved = warp(blobs, flow)
    small = warp(resized(blobs, 16), flow)
    off = (resized(moved, 16) - small).abs().mean()
    assert off < 0.15 * (moved - blobs).abs().mean()


def test_smaller_images_are_means_of_larger_ones() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert torch.allclose(resized(images, 4), F.avg_pool2d(images, 2))
    assert resized(images, 8) is images
    assert torch.allclose(resized(resized(images, 4), 16).mean(), images.mean(), atol=0.02)
