"""Samples and batches in every form that torchvision's pipelines have, and what is none."""

import numpy as np
import pytest
import torch
from crop_augmenter import unchecked
from PIL import Image
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from expraug.errors import LabelError
from expraug.labels import LABEL_KEYS
from expraug.transforms.torchvision import RandomExpression

SCHEME = ["happy", "neutral"]
HAPPY, NEUTRAL = 0, 1


def always(**options):
    return RandomExpression(SCHEME, "pixel", p=1.0, **unchecked() | options)


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


# -- what cannot be a sample


@pytest.mark.parametrize("wrap", [Image.fromarray, lambda image: tensor(image), np.asarray])
def test_an_image_alone_is_told_how_to_get_its_label(neutral_images, wrap):
    image = wrap(neutral_images[0])
    for transform in (always(), v2.Compose([always(), v2.ToImage()])):
        with pytest.raises(LabelError, match=r"sees the image alone.*JointTransform\(dataset"):
            transform(image)


def test_the_transform_of_an_image_folder_tells_what_to_do(faces):
    folder = ImageFolder(str(faces), transform=v2.Compose([RandomExpression("fer2013", "pixel")]))
    with pytest.raises(LabelError, match=r"wrap the data set in expraug\.JointTransform"):
        folder[0]


@pytest.mark.parametrize(
    "label",
    [4.7, 1.0, True, None, 5, "bored", [1, 1], [4, 4], [0.5, 0.4], (1,), torch.tensor(1.0),
     torch.tensor([1]), torch.tensor([[0, 1]]), np.array([1]), np.float32(1), b"neutral",
     {"boxes": 3}, [torch.tensor(0), torch.tensor(1)]],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_labels_that_cannot_be_right(neutral_images, label, p):
    transform = RandomExpression(SCHEME, "pixel", p=p)
    for image in (Image.fromarray(neutral_images[0]), tensor(neutral_images[0])):
        with pytest.raises(LabelError):
            transform(image, label)


@pytest.mark.parametrize("labels", [[1, 1], [0, 1], [4, 4]])
def test_a_list_of_images_is_refused(neutral_images, labels):
    """[0, 1] is one-hot for two classes: the first of the images was changed by it."""
    images = [Image.fromarray(image) for image in neutral_images[:2]]
    with pytest.raises(ValueError, match="a list of images is neither a sample nor a batch"):
        always()(images, labels)
    with pytest.raises(ValueError, match="a list of images"):
        always()({"image": images, "label": labels})


def test_what_holds_no_image():
    for sample in (
        ("path.jpg", NEUTRAL),
        ("path.jpg", "neutral"),
        (torch.tensor(3), NEUTRAL),
        (b"", "neutral"),
    ):
        with pytest.raises(ValueError, match="found no image"):
            always()(sample)
    with pytest.raises(LabelError, match="found no label"):
        always()({"image": Image.new("L", (32, 32)), "id": 1})


@pytest.mark.parametrize(
    "labels",
    [torch.zeros(3), torch.zeros(3).long(), torch.zeros(2, 1, 1), torch.tensor(1), [1], [1, 1, 1],
     "neutral", 1, np.zeros(3, int)],
    ids=repr,
)  # fmt: skip
def test_batches_need_a_label_for_each_image(labels):
    with pytest.raises(LabelError, match=r"batch of 2 .* shape \(2,\) or \(2, classes\)"):
        always()(torch.zeros(2, 3, 32, 32), labels)


@pytest.mark.parametrize("labels", [torch.ones(2), torch.ones(2).bool(), [1.0, 1.0], [True, True]])
def test_batches_refuse_labels_that_single_samples_refuse(labels):
    with pytest.raises(LabelError, match="a label must be a class index"):
        always()(torch.zeros(2, 3, 32, 32), labels)


@pytest.mark.parametrize("spoil", [lambda x: x * 255, lambda x: x * 2 - 1, lambda x: x / 0])
def test_floats_after_normalize_are_refused(neutral_images, spoil):
    image = spoil(tensor(neutral_images[0]).float() / 255)
    for sample in ((image, NEUTRAL), (image[None], torch.tensor([NEUTRAL])),
                   (image.permute(1, 2, 0).numpy(), NEUTRAL)):  # fmt: skip
        with pytest.raises(ValueError, match="before Normalize"):
            always()(*sample)


# -- what is a sample


@pytest.mark.parametrize("key", [*LABEL_KEYS, "Label", "gt_label"])
def test_dicts_name_their_label(neutral_images, key):
    image = Image.fromarray(neutral_images[0])
    for sample in ({"id": 1, key: NEUTRAL, "image": image}, {"img": image, key: "neutral"}):
        made = always()(sample)
        assert made[key] in (HAPPY, "happy")
        assert made.get("id", 1) == 1
        assert list(made) == list(sample)


def test_the_named_image_is_the_one_that_changes(neutral_images):
    image, other = tensor(neutral_images[0]), torch.rand(3, 32, 32)
    made = always()({"depth": other, "image": image, "label": NEUTRAL})
    assert made["depth"] is other
    assert not torch.equal(made["image"], image)


def test_a_mask_between_image_and_label(neutral_images):
    image, mask = neutral_images[0], np.zeros((256, 256), np.uint8)
    for sample in (
        (Image.fromarray(image), Image.fromarray(mask), NEUTRAL),
        (tensor(image), torch.from_numpy(mask), torch.tensor(NEUTRAL)),
        (tensor(image), tv_tensors.Mask(mask), "neutral"),
        (tensor(image)[None], torch.from_numpy(mask)[None], torch.tensor([NEUTRAL])),
    ):
        made = always()(sample)
        assert made[1] is sample[1]
        assert made[2] in (HAPPY, "happy")
    with pytest.raises(LabelError, match="give labels_getter"):
        always()(Image.fromarray(image), Image.fromarray(mask), NEUTRAL, 7)


def test_what_follows_the_label_is_not_taken_for_it(neutral_images):
    batch, hot = tensor(neutral_images[0])[None], torch.tensor([[0.0, 1.0]])
    made = always()(batch, hot, torch.tensor([5]))
    assert made[1].tolist() == [[1.0, 0.0]]
    assert made[2].tolist() == [5]


def test_one_hot_and_soft_labels(neutral_images):
    image = Image.fromarray(neutral_images[0])
    for label in ([0, 1], (0.1, 0.9), torch.tensor([0.2, 0.8]), np.array([0, 1])):
        made = always()(image, label)[1]
        assert type(made) is type(label)
        assert list(made) == [1, 0]
    transform = always()
    unclear = [0.5, 0.5]
    assert transform(image, unclear) == (image, unclear)
    assert transform.augmenter.stats == {"ambiguous_label": 1}


@pytest.mark.parametrize("labels", [torch.tensor([[0.0, 1.0], [0.1, 0.9]]), ["neutral"] * 2,
                                    (NEUTRAL, NEUTRAL), np.array([NEUTRAL] * 2)])  # fmt: skip
def test_batches_of_other_labels(neutral_images, labels):
    images = torch.stack([tensor(image) for image in neutral_images[:2]])
    made, new = always(seed=1)(images, labels)
    expected, _ = always(seed=1)(images, torch.tensor([NEUTRAL, NEUTRAL]))
    assert torch.equal(made, expected)
    assert type(new) is type(labels)
    assert np.array_equal(np.asarray(new), np.asarray(
        {torch.Tensor: [[1, 0], [1, 0]], list: ["happy"] * 2}.get(type(labels), [HAPPY] * 2)
    ))  # fmt: skip


def test_arrays_and_batches_of_them(neutral_images):
    images = np.stack(neutral_images[:2])
    made, label = always(seed=1)(images[0], NEUTRAL)
    assert isinstance(made, np.ndarray)
    expected, _ = always(seed=1)(Image.fromarray(images[0]), NEUTRAL)
    assert np.array_equal(made, expected)
    batch, labels = always(seed=1)(images, np.array([NEUTRAL, NEUTRAL]))
    assert np.array_equal(batch[0], made)
    assert labels.tolist() == [HAPPY, HAPPY] == [label] * 2


def test_a_batch_that_nothing_is_asked_of_comes_back_itself(neutral_images):
    images, labels = tensor(neutral_images[0])[None], torch.tensor([NEUTRAL])
    made = RandomExpression(SCHEME, "pixel", p=0.0)(images, labels)
    assert made[0] is images
    assert made[1] is labels


@pytest.mark.parametrize("seed", [None, 3])
def test_an_empty_batch(seed):
    images, labels = torch.zeros(0, 3, 32, 32), torch.zeros(0, dtype=torch.long)
    assert always(seed=seed)(images, labels) == (images, labels)


def test_low_precision_and_gradients(neutral_images):
    image = tensor(neutral_images[0]) / 255
    made, label = always()(image.bfloat16(), NEUTRAL)
    assert (made.dtype, label) == (torch.bfloat16, HAPPY)
    assert not torch.equal(made, image.bfloat16())
    for given, labels in ((image, NEUTRAL), (image[None], torch.tensor([NEUTRAL]))):
        leaf = given.clone().requires_grad_()
        made, _ = always()(leaf, labels)
        made.sum().backward()
        assert leaf.grad.mean() > 0.9, "what is added to an image leaves its gradient"


@pytest.mark.parametrize("mode", ["P", "I;16", "CMYK", "LA"])
def test_changed_and_unchanged_images_collate(neutral_images, mode):
    image = Image.fromarray(neutral_images[0])
    image = image.quantize(256) if mode == "P" else image.convert("LA" if mode == "LA" else "L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image = image if mode == "P" else image.convert(mode)
    made, label = always(targets=["happy"], intensity=(1, 1))(image, NEUTRAL)
    assert (made.mode, label) == (mode, HAPPY)
    assert np.stack([np.asarray(made), np.asarray(image)]).ndim >= 3


def test_a_1_bit_image_stays_as_it_is_and_is_counted(neutral_images):
    image = Image.fromarray(neutral_images[0]).convert("1")
    transform = always()
    assert transform(image, NEUTRAL) == (image, NEUTRAL)
    assert transform.augmenter.stats == {"image_mode": 1}


def test_in_and_out_again(neutral_images):
    """Of floats, what comes out goes in again."""
    image = tensor(neutral_images[0]) / 255 + torch.rand(3, 256, 256) / 600
    transform = always(targets=["happy"], intensity=(1, 1))
    once, _ = transform(image.clamp(0, 1), NEUTRAL)
    transform(once, NEUTRAL)
