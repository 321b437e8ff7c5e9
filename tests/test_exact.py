"""What the caller has set for networks of his own changes no face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter

from expraug import Expression, SynthesisRequest, list_synthesizers
from expraug.transforms.torchvision import RandomExpression


@pytest.mark.parametrize("name", list_synthesizers(pretrained=True))
def test_the_same_bytes_inside_of_autocast(neutral_images: list[np.ndarray], name: str) -> None:
    images, requests = neutral_images[:2], [SynthesisRequest(Expression.HAPPY)] * 2
    plain = crop_augmenter(name)(images, requests)
    with torch.autocast("cpu", torch.bfloat16):
        inside = crop_augmenter(name)(images, requests)
    for one, other in zip(plain, inside, strict=True):
        assert one.target is other.target is Expression.HAPPY
        assert np.array_equal(one.image, other.image)


def test_an_augmenter_made_in_inference_mode_works_outside(
    neutral_images: list[np.ndarray],
) -> None:
    batch = torch.from_numpy(np.stack(neutral_images[:2])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        door = RandomExpression(
            ["happy", "neutral"], augmenter=crop_augmenter("unet_cgan"), p=1.0, seed=1
        )
        first, _ = door(batch, torch.tensor([1, 1]))
    again, labels = door(batch, torch.tensor([1, 1]))
    assert torch.equal(first, again)
    assert labels.tolist() == [0, 0]
