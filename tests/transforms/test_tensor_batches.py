"""Batches of tensors: what comes out, and that no pixels leave their device but for digests."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from crop_augmenter import MeanFaceDetector, crop_augmenter
from PIL import Image
from torchvision import tv_tensors

from expraug import ExpressionAugmenter
from expraug.cache import SynthesisCache, image_digest
from expraug.faces.detect import CROP_POINTS
from expraug.faces.image import as_array
from expraug.pipeline.synthetic import batch_digests, digests_of
from expraug.transforms.torchvision import RandomExpression

SCHEME = ["happy", "neutral"]
HAPPY, NEUTRAL = 0, 1
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.fixture
def batch(neutral_images):
    """(3, 3, 160, 160) uint8; nobody's face is in the last."""
    faces = [Image.fromarray(image).resize((160, 160)) for image in neutral_images[:2]]
    images = np.stack([*map(np.array, faces), np.full((160, 160, 3), 90, np.uint8)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def door(augmenter=None, **options):
    augmenter = augmenter or ExpressionAugmenter("transfer", per_image=2)
    return RandomExpression(SCHEME, augmenter=augmenter, p=1.0, seed=5, **options)


def labels(images):
    return torch.tensor([NEUTRAL] * len(images))


def test_a_batch_gives_the_bytes_of_its_samples(batch):
    """Also of other shapes, in grey, and in other layouts."""
    transform = door()
    narrow = batch[:, :, 10:, 40:].clone()
    kinds = {
        "not square": narrow,
        "grey": narrow[1:, :1].clone(),
        "channels last": batch[:1].to(memory_format=torch.channels_last),
        "large": F.interpolate(batch[:1].float(), (1700, 1600)).to(torch.uint8),
    }
    for kind, images in kinds.items():
        before = images.clone()
        made, new = transform(images, labels(images))
        assert made.dtype == torch.uint8
        assert made.shape == images.shape
        assert made.stride() == images.stride(), kind
        assert torch.equal(images, before), "the input must stay"
        faces = 1 if kind == "grey" else min(2, len(images))
        assert new.tolist() == [HAPPY] * faces + [NEUTRAL] * (len(images) - faces)
        assert torch.equal(made[faces:], images[faces:]), "no face, no change"
        one, label = transform(images[0], NEUTRAL)
        assert label == HAPPY
        assert torch.equal(one, made[0]), kind
    picture = Image.fromarray(as_array(narrow[0]))
    expected = as_array(transform(narrow[:1], labels(narrow[:1]))[0][0])
    assert np.array_equal(transform(picture, NEUTRAL)[0], expected)


def test_digests_are_those_of_every_other_door(batch):
    for images in (batch, batch[:, :1], batch[:, :, 5:, 9:]):
        expected = [image_digest(as_array(image)) for image in images]
        assert batch_digests(images) == expected
        assert digests_of(list(images)) == expected
        assert digests_of([as_array(image) for image in images]) == expected


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_go_in_and_come_out(batch, dtype):
    in_the_middle = MeanFaceDetector((CROP_POINTS - 0.5) / 2 + 0.5)
    transform = door(crop_augmenter("pixel", alignment=in_the_middle))
    # with more around the faces than they move
    images = F.pad(batch.to(dtype) / 255, (80, 80, 80, 80), mode="replicate")
    unclear = [0.5, 0.5]  # of the last nobody knows what it shows
    made, new = transform(images, torch.tensor([[0, 1.0], [0, 1.0], unclear]))
    assert made.dtype == dtype
    assert new.tolist() == [[1, 0], [1, 0], unclear]
    beside = torch.ones(images.shape[2:], dtype=torch.bool)
    beside[20:-20, 20:-20] = False
    assert torch.equal(made[..., beside], images[..., beside]), "outside the faces every bit stays"
    assert torch.equal(made[2], images[2])
    assert 0 <= made.min() < made.max() <= 1
    for i in range(2):
        one, _ = transform(images[i], NEUTRAL)
        assert torch.equal(one, made[i])


def test_only_some_are_worked_on(batch):
    transform = RandomExpression(SCHEME, augmenter=crop_augmenter("pixel"), p=0.5)
    torch.manual_seed(1)
    made, new = transform(batch, labels(batch))
    changed = [not torch.equal(one, other) for one, other in zip(made, batch, strict=True)]
    assert changed == [label == HAPPY for label in new.tolist()]
    assert 0 < sum(changed) < 3
    never = RandomExpression(SCHEME, augmenter=crop_augmenter("pixel"), p=0.0)
    given = labels(batch)
    same, kept = never(batch, given)
    assert same is batch
    assert kept is given


def test_subclasses_names_and_soft_labels(batch):
    transform = door(crop_augmenter("pixel"))
    made, new = transform(tv_tensors.Image(batch), ["neutral"] * 3)
    assert isinstance(made, tv_tensors.Image)
    assert new == ["happy"] * 3
    _, soft = transform(batch, torch.tensor([[0.1, 0.9]] * 3))
    assert soft.tolist() == [[1.0, 0.0]] * 3
    nested = transform({"image": batch, "label": labels(batch)})
    assert torch.equal(nested["image"], made)


def test_what_cannot_be_right(batch):
    transform = door(crop_augmenter("pixel"))
    normalised = batch.float() / 50 - 1
    with pytest.raises(ValueError, match="before Normalize"):
        transform(normalised, labels(batch))
    broken = batch.float() / 255
    broken[1, 0, 7, 7] = torch.nan
    with pytest.raises(ValueError, match="must be finite"):
        transform(broken, labels(batch))
    with pytest.raises(ValueError, match=r"got torch.int64, shape \(3, 3, 160, 160\)"):
        transform(batch.long(), labels(batch))
    with pytest.raises(ValueError, match=r"a batch of images must be \(B, 1 or 3, H, W\)"):
        transform(batch.permute(0, 2, 3, 1), labels(batch))
    tiny = batch[:, :, :12, :12]
    same, kept = transform(tiny, labels(tiny))
    assert same is tiny
    assert kept.tolist() == [NEUTRAL] * 3
    assert transform.augmenter.stats == {"unreadable_image": 3}
    empty = batch[:0]
    assert transform(empty, labels(empty))[0] is empty


def test_gradients_flow_through_what_stays(batch):
    images = (batch.float() / 255).requires_grad_()
    made, _ = door(crop_augmenter("pixel"))(images, labels(batch))
    made.sum().backward()
    assert (images.grad[:, :, 0, 0] == 1).all()


class Crossings:
    """Takes note of whatever makes an array of as many numbers as an image has."""

    def __init__(self, monkeypatch, least):
        self.seen = []
        numpy, asarray, array = torch.Tensor.numpy, np.asarray, np.array

        def told(what, value):
            if value.numel() >= least:
                file = Path(sys._getframe(2).f_code.co_filename)
                self.seen.append((what, file.name, value.numel()))

        def spying_numpy(tensor, **options):
            told("numpy", tensor)
            return numpy(tensor, **options)

        def spying(original):
            def spy(value, *args, **options):
                if isinstance(value, torch.Tensor):
                    told(original.__name__, value)
                return original(value, *args, **options)

            return spy

        monkeypatch.setattr(torch.Tensor, "numpy", spying_numpy)
        monkeypatch.setattr(np, "asarray", spying(asarray))
        monkeypatch.setattr(np, "array", spying(array))


def test_pixels_are_copied_to_the_host_for_their_digests_alone(batch, monkeypatch):
    transform = door()
    transform(batch, labels(batch))  # what is loaded at first use is no pixels
    crossings = Crossings(monkeypatch, least=64 * 64)
    _, new = transform(batch, labels(batch))
    # on a CPU faces are known again by their bytes, which cross nothing
    known = ("landmark_gate.py", "known_faces.py")
    crossings.seen = [seen for seen in crossings.seen if seen[1] not in known]
    assert new.tolist() == [HAPPY, HAPPY, NEUTRAL]
    assert crossings.seen == [("numpy", "synthetic.py", batch.numel())]


def test_the_spy_sees_what_leaves(batch, monkeypatch):
    crossings = Crossings(monkeypatch, least=64 * 64)
    as_array(batch[0])
    np.asarray(batch)
    assert len(crossings.seen) >= 2


@pytest.mark.parametrize("encoding", ["raw", "jpeg:90"])
def test_hits_are_read_on_the_host_and_put_in_as_patches(batch, tmp_path, encoding):
    def augmenter():
        cache = SynthesisCache(tmp_path, encoding=encoding)
        return ExpressionAugmenter("transfer", per_image=2, cache=cache)

    fresh, new = door(augmenter())(batch, labels(batch))
    again = door(augmenter())
    read, too = again(batch, labels(batch))
    assert torch.equal(read, fresh)
    assert torch.equal(too, new)
    assert again.augmenter.stats == {"cached": 2, "no_face": 1}
    image = Image.fromarray(batch[1].permute(1, 2, 0).numpy())
    assert np.array_equal(again(image, NEUTRAL)[0], fresh[1].permute(1, 2, 0))
    grey = batch[:, :1].clone()
    made, _ = again(grey, labels(grey))
    assert torch.equal(door(augmenter())(grey, labels(grey))[0], made)


def test_misses_are_stored_by_a_thread_while_filling(batch, tmp_path):
    transform = door(ExpressionAugmenter("transfer", per_image=2, cache=tmp_path))
    with transform.augmenter.cache.filling():
        made, _ = transform(batch, labels(batch))
        same, _ = transform(batch, labels(batch))  # waits for what is on its way
    assert torch.equal(made, same)
    assert transform.augmenter.stats == {"made": 2, "cached": 2, "no_face": 2}
