import numpy as np
import pytest
import torch
from PIL import Image

from expraug import ExpressionAugmenter
from expraug.transforms.torchvision import RandomExpression

SCHEME = ["happy", "neutral"]


class Damaged(torch.utils.data.Dataset):
    """Samples in every shape that data sets give, some of them broken."""

    def __init__(self, images):
        pil = Image.fromarray(images[1])
        self.samples = [
            (images[0], 1),
            (pil, torch.tensor(1)),
            {"image": images[2], "label": "neutral"},
            (images[3], 7),
            (Image.new("L", (1, 1)), 1),
            OSError("truncated"),
            "not a sample",
            (torch.from_numpy(images[4]).permute(2, 0, 1), 1, "extra"),
        ]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


@pytest.mark.parametrize("num_workers", [0, 2])
def test_warm_makes_all_that_can_be_drawn_and_lists_the_rest(neutral_images, tmp_path, num_workers):
    augmenter = ExpressionAugmenter(cache=tmp_path, intensity_levels=2, on_miss="error")
    dataset = Damaged(neutral_images)
    report = augmenter.warm(dataset, SCHEME, num_workers=num_workers, progress=False)
    assert (report.made, report.cached) == (4 * 2, 0)
    assert report.skipped == {"label_outside_scheme": 2, "unreadable_image": 2}
    assert [i for i, _, _ in report.failures] == [3, 4, 5, 6]
    assert "truncated" in report.failures[2][2]
    again = augmenter.warm(dataset, SCHEME, progress=False)
    assert (again.made, again.cached) == (0, 8)


def test_training_after_warming_only_reads(neutral_images, tmp_path, smile):
    augmenter = ExpressionAugmenter(smile, cache=tmp_path, on_miss="error")
    pairs = [(image, 1) for image in neutral_images]
    augmenter.warm(pairs, SCHEME, progress=False)
    transform = RandomExpression(SCHEME, augmenter=augmenter, p=1.0)
    for image, label in pairs:
        assert transform(Image.fromarray(image), label)[1] == 0
    assert augmenter.stats["cached"] >= len(pairs)


def test_faces_that_are_not_found_are_listed_once(neutral_images, tmp_path):
    augmenter = ExpressionAugmenter(cache=tmp_path, alignment="detect")
    blank = np.full((64, 64, 3), 99, np.uint8)
    report = augmenter.warm([(blank, 1), (neutral_images[0], 1)], SCHEME, progress=False)
    assert report.made == 3
    assert report.failures == [(0, "no_face", "the detector found no face")]


def test_warming_needs_a_cache():
    with pytest.raises(ValueError, match="needs a cache"):
        ExpressionAugmenter().warm([], SCHEME)
