"""Quick means and larger images, against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.planes import box_blur, box_means, doubled


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 2, 24, 36, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [1, 2, 3, 4, 6])
def test_means_of_squares(images: Tensor, side: int) -> None:
    torch.testing.assert_close(box_means(images, side), F.avg_pool2d(images, side))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (7, 1), (1, 5), (7, 7)])
def test_means_around_pixels(images: Tensor, height: int, width: int) -> None:
    expected = F.avg_pool2d(images, (height, width), 1, (height // 2, width // 2))
    torch.testing.assert_close(box_blur(images, height, width), expected)


def test_twice_as_large(images: Tensor) -> None:
    expected = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(doubled(images), expected)


@pytest.mark.parametrize("work", [lambda x: box_means(x, 2), lambda x: box_blur(x, 3, 3), doubled])
def test_an_image_does_not_depend_on_its_batch(images: Tensor, work) -> None:  # type: ignore[no-untyped-def]
    alone = torch.cat([work(image[None]) for image in images])
    assert torch.equal(work(images), alone)
    again = work(images.clone().requires_grad_())  # which can be trained through
    torch.testing.assert_close(again, alone)
    assert again.requires_grad
