"""Images that become videos of their faces, in every form that samples have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter, unchecked
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from expraug import LabelScheme
from expraug.errors import LabelError
from expraug.transforms.video import RandomExpressionClip

SCHEME = ["happy", "neutral"]
HAPPY, NEUTRAL = 0, 1


def always(**options):
    return RandomExpressionClip(SCHEME, "pixel", frames=3, p=1.0, **unchecked() | options)


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def test_one_sample_in_every_form(neutral_images):
    image = neutral_images[0]
    expected = torch.from_numpy(crop_augmenter("pixel").clip(image, "neutral", "happy", 3))
    transform = always()
    for given in (Image.fromarray(image), tensor(image), tv_tensors.Image(tensor(image))):
        video, label = transform(given, NEUTRAL)
        assert type(video) is tv_tensors.Video
        assert label == HAPPY
        assert torch.equal(video, expected)
    made = transform({"image": tensor(image), "label": "neutral", "id": 1})
    assert torch.equal(made["image"], expected)
    assert (made["label"], made["id"]) == ("happy", 1)
    video, label = transform(tensor(image).float() / 255, torch.tensor(NEUTRAL))
    assert video.dtype == torch.float32
    assert label.item() == HAPPY
    assert torch.allclose(video, expected / 255, atol=1e-6)
    grey, _ = transform(Image.fromarray(image).convert("L"), NEUTRAL)
    assert grey.shape == (3, 1, 256, 256)
    assert not torch.equal(grey[0], grey[2])


def test_a_batch(neutral_images, happy_images):
    images = torch.stack([tensor(neutral_images[0]), tensor(happy_images[0])])
    videos, labels = always(seed=1)(images, torch.tensor([NEUTRAL, HAPPY]))
    assert type(videos) is tv_tensors.Video
    assert videos.shape == (2, 3, 3, 256, 256)
    assert labels.tolist() == [HAPPY, NEUTRAL]
    for i, label in enumerate([NEUTRAL, HAPPY]):
        assert torch.equal(videos[i], always(seed=1)(images[i], label)[0])
    assert torch.equal(videos[:, 0], images)
    with pytest.raises(ValueError, match="as many labels"):
        always()(images, torch.tensor([NEUTRAL]))


def test_batches_of_every_kind(neutral_images):
    images = np.stack(neutral_images[:2])
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected, _ = always(seed=1)(tensors, torch.tensor([NEUTRAL, NEUTRAL]))
    hot = torch.tensor([[0.0, 1.0], [0.2, 0.8]])
    for given, labels in ((images, np.array([NEUTRAL] * 2)), (tv_tensors.Image(tensors), hot)):
        videos, made = always(seed=1)(given, labels)
        assert type(videos) is tv_tensors.Video
        assert torch.equal(videos, expected)
        assert type(made) is type(labels)
        assert made.tolist() in ([HAPPY, HAPPY], [[1, 0], [1, 0]])
    for empty in (images[:0], tensors[:0], tensors[:0].float()):
        videos, made = always()(empty, torch.zeros(0, dtype=torch.long))
        assert videos.shape == (0, 3, 3, 256, 256)
        assert type(videos) is tv_tensors.Video
        assert len(made) == 0


def test_refuses_what_random_expression_refuses(neutral_images):
    image = tensor(neutral_images[0])
    for label in (4.7, True, None, [1, 1]):
        with pytest.raises(LabelError):
            always()(image, label)
    with pytest.raises(LabelError, match="sees the image alone"):
        always()(image)
    with pytest.raises(ValueError, match="before Normalize"):
        always()(image / 255 * 2 - 1, NEUTRAL)
    with pytest.raises(ValueError, match="its own cache"):
        RandomExpressionClip(SCHEME, augmenter=crop_augmenter("pixel"), cache="x")
    ready = RandomExpressionClip(SCHEME, frames=2, augmenter=crop_augmenter("pixel"), p=1.0)
    assert ready(image, NEUTRAL)[1] == HAPPY


def test_a_scheme_may_be_told_later(neutral_images):
    transform = RandomExpressionClip(synthesizer="pixel", frames=2, p=1.0, **unchecked())
    assert "frames=2" in repr(transform)
    with pytest.raises(LabelError, match="give RandomExpression"):
        transform(tensor(neutral_images[0]), NEUTRAL)
    transform.bind(LabelScheme.from_classes(SCHEME))
    assert transform(tensor(neutral_images[0]), NEUTRAL)[1] == HAPPY


@pytest.mark.parametrize("mode", ["P", "1", "I;16", "CMYK"])
def test_rare_modes_become_grey_or_rgb(neutral_images, mode):
    image = Image.fromarray(neutral_images[0])
    image = image.quantize(256) if mode == "P" else image.convert("I" if mode == "I;16" else mode)
    image = image.convert(mode)
    changed, label = always()(image, NEUTRAL)
    assert label == HAPPY
    still, label = RandomExpressionClip(SCHEME, "pixel", frames=3, p=0.0)(image, NEUTRAL)
    assert label == NEUTRAL
    assert changed.dtype == still.dtype == torch.uint8
    assert changed.shape == still.shape
    assert torch.equal(changed[0], still[0])


def test_left_alone_the_image_is_repeated(neutral_images):
    image, black = neutral_images[0], np.zeros((64, 64, 3), np.uint8)
    never = RandomExpressionClip(SCHEME, frames=3, p=0.0, synthesizer="pixel")
    found = always(alignment="detect")
    tiny = np.full((12, 12, 3), 7, np.uint8)
    for transform, pixels in ((never, image), (found, black), (always(), tiny)):
        for given in (Image.fromarray(pixels), tensor(pixels)):
            video, label = transform(given, NEUTRAL)
            assert label == NEUTRAL
            assert type(video) is tv_tensors.Video
            assert torch.equal(video, tensor(pixels).expand(3, -1, -1, -1))
    assert found.augmenter.stats == {"no_face": 2}
    rgba = Image.fromarray(image).convert("RGBA")
    assert never(rgba, NEUTRAL)[0].shape == (3, 3, 256, 256), "as where it is worked on"


def test_requests_follow_the_seed_and_the_policy(neutral_images):
    scheme = ["neutral", "happy", "sad", "surprise"]
    options = {"frames": 2, "synthesizer": "pixel", "p": 0.7, **unchecked()}
    given = [Image.fromarray(image) for image in neutral_images]
    labels = []
    for _ in range(2):
        transform = RandomExpressionClip(scheme, seed=3, **options)
        labels.append([transform(image, 0)[1] for image in given])
    assert labels[0] == labels[1]
    assert len(set(labels[0])) > 2
    sad = RandomExpressionClip(scheme, targets=["sad"], **options | {"p": 1.0})
    assert sad(given[0], 0)[1] == 2
    with pytest.raises(LabelError):
        sad(given[0], 9)
    with pytest.raises(ValueError, match="frames"):
        RandomExpressionClip(scheme, frames=1)


def test_through_a_pipeline_and_workers(neutral_images):
    pipeline = v2.Compose([always(), v2.Resize(32), v2.ToDtype(torch.float32, scale=True)])
    samples = [pipeline(Image.fromarray(image), NEUTRAL) for image in neutral_images[:1]]
    assert samples[0][0].shape == (3, 3, 32, 32)

    faces = [(tensor(image), NEUTRAL) for image in neutral_images[:2]]
    mapped = _Mapped(faces, always())
    videos, labels = next(iter(DataLoader(mapped, batch_size=2, num_workers=1)))
    assert videos.shape == (2, 3, 3, 256, 256)
    assert labels.tolist() == [HAPPY, HAPPY]


class _Mapped(torch.utils.data.Dataset):
    def __init__(self, faces, transform):
        self.faces, self.transform = faces, transform

    def __len__(self):
        return len(self.faces)

    def __getitem__(self, index):
        return self.transform(*self.faces[index])
