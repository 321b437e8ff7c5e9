import pickle

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter, unchecked
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from expraug import LabelScheme
from expraug.datasets import (
    BalancedExpressionSampler,
    ExpressionAugmentedDataset,
    JointTransform,
    is_synthetic,
    labels_of,
)
from expraug.errors import LabelError
from expraug.labels import dataset_scheme
from expraug.transforms.torchvision import RandomExpression

HAPPY, NEUTRAL = 0, 1


@pytest.fixture
def folder(faces):
    """Ten smiling and ten neutral people, small so that tests are fast."""
    return ImageFolder(str(faces), transform=v2.Resize((64, 64), antialias=True))


@pytest.fixture
def change(smile):
    """Return a function that makes a transform, told no scheme, which changes each face."""
    return lambda **options: RandomExpression(
        synthesizer=smile, **unchecked() | {"p": 1.0} | options
    )


def test_image_and_label_change_together(folder, change, smile):
    joint = JointTransform(folder, change(intensity=(1, 1)))
    assert len(joint) == 20
    augmenter = crop_augmenter(smile, intensity=(1, 1))
    expected = ExpressionAugmentedDataset(folder, augmenter)
    for i in (0, 12):
        image, label = joint[i]
        assert isinstance(image, Image.Image)
        assert label == 1 - folder[i][1] == expected[20 + i][1]
        assert np.array_equal(image, expected[20 + i][0])


@pytest.mark.parametrize(
    "nest",
    [
        lambda t: t,
        lambda t: v2.Compose([v2.RandomHorizontalFlip(), t]),
        lambda t: v2.Compose([v2.RandomApply([t], p=1.0)]),
        lambda t: v2.RandomChoice([v2.Compose([t])]),
        lambda t: v2.RandomOrder([t, v2.RandomHorizontalFlip()]),
        lambda t: v2.RandomApply(torch.nn.ModuleList([t]), p=1.0),
        lambda t: torch.nn.Sequential(t),
    ],
)
def test_the_scheme_finds_every_random_expression(folder, change, nest):
    inner = change()
    nested = nest(inner)
    JointTransform(folder, nested)
    assert inner.scheme.classes == {0: "happy", 1: "neutral"}
    again = change(scheme=["happy", "neutral"])
    JointTransform(folder, nest(again))
    for wrong in (["neutral", "happy"], "fer2013"):
        with pytest.raises(LabelError, match="at index 0"):
            JointTransform(folder, nest(change(scheme=wrong)))


def test_two_transforms_must_agree(folder, change):
    with pytest.raises(LabelError, match="at index 0"):
        JointTransform(folder, v2.Compose([change(), change(scheme=["neutral", "happy"])]))
    both = v2.Compose([change(), change()])
    assert JointTransform(folder, both)[3][1] == HAPPY, "there and back again"


def test_words_of_a_set_that_mean_no_expression_by_themselves(folder, change):
    class Odd(torch.utils.data.Dataset):
        classes = ("grin", "poker face")

        def __len__(self):
            return 20

        def __getitem__(self, index):
            return folder[index]

    with pytest.raises(LabelError, match="'grin'"):
        JointTransform(Odd(), change())
    meaning = {"poker face": "neutral", "grin": "happy"}  # the set's own order counts
    assert JointTransform(Odd(), change(), meaning)[0][1] == NEUTRAL
    told = LabelScheme.from_mapping({"grin": "happy", "poker face": "neutral"})
    assert JointTransform(Odd(), change(scheme=told))[0][1] == NEUTRAL


def test_a_set_without_class_names_needs_a_scheme(neutral_images, change):
    pairs = [(Image.fromarray(image), NEUTRAL) for image in neutral_images[:2]]
    with pytest.raises(LabelError, match="does not tell"):
        JointTransform(pairs, change())
    assert JointTransform(pairs, change(scheme=["happy", "neutral"]))[0][1] == HAPPY
    assert JointTransform(pairs, change(), ["happy", "neutral"])[1][1] == HAPPY
    plain = JointTransform(pairs, v2.RandomHorizontalFlip(p=1))
    assert plain.scheme is None
    assert np.array_equal(plain[0][0], neutral_images[0][:, ::-1])
    assert not hasattr(plain, "classes")


def test_samples_of_every_kind(neutral_images, change):
    face = Image.fromarray(neutral_images[0])
    tensor = torch.from_numpy(neutral_images[0]).permute(2, 0, 1)
    samples = [
        (face, NEUTRAL, "file.jpg"),
        {"image": face, "label": NEUTRAL, "identity": "ann"},
        (tensor, torch.tensor(NEUTRAL)),
    ]
    joint = JointTransform(samples, v2.Compose([change()]), ["happy", "neutral"])
    image, label, name = joint[0]
    assert (label, name) == (HAPPY, "file.jpg")
    assert not np.array_equal(image, face)
    assert joint[1]["label"] == HAPPY
    assert joint[1]["identity"] == "ann"
    assert joint[1]["image"] != face
    assert joint[2][1].item() == HAPPY
    assert joint[2][0].shape == tensor.shape
    flipped = JointTransform(samples[:1], lambda image, label, name: (image, 7, name.upper()))
    assert flipped[0] == (face, 7, "FILE.JPG")


def test_what_the_data_set_tells_is_passed_on(folder, change):
    joint = JointTransform(folder, change())
    assert joint.classes == folder.classes
    assert joint.class_to_idx == folder.class_to_idx
    assert labels_of(joint) == joint.targets == folder.targets
    assert dataset_scheme(joint) == dataset_scheme(folder) == joint.scheme
    part = JointTransform(ConcatDataset([Subset(folder, [3, 12]), folder]), change())
    assert part.classes == folder.classes
    assert part.targets == [HAPPY, NEUTRAL, *folder.targets]


def test_a_scheme_with_classes_that_show_nothing(folder, change):
    """As a published data set brings it: class names alone would not tell."""

    class Described(torch.utils.data.Dataset):
        scheme = LabelScheme.from_mapping({"glad": "happy", "calm": "neutral", "unknown": None})

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return folder[12][0], index

    described = Described()
    for transform in (change(), change(scheme=Described.scheme)):
        joint = JointTransform(described, transform)
        assert joint.scheme == described.scheme
        assert [joint[i][1] for i in range(3)] == [1, 0, 2]
    assert JointTransform(described, v2.ToImage()).scheme is described.scheme
    with pytest.raises(LabelError, match=r"at index 0 .*'angry'"):
        JointTransform(described, change(scheme="fer2013"))


def test_around_added_faces(folder, smile):
    """Random transforms belong behind the wrapper that adds faces, which must see stable pixels."""
    added = ExpressionAugmentedDataset(folder, crop_augmenter(smile))
    joint = JointTransform(added, v2.Compose([v2.RandomHorizontalFlip(p=1), v2.ToImage()]))
    assert is_synthetic(joint) == [i >= 20 for i in range(40)]
    assert joint.targets == added.targets
    assert joint.classes == added.classes == folder.classes
    assert len(BalancedExpressionSampler(joint)) == 40
    assert joint[25][1] == added[25][1]
    assert np.array_equal(joint[25][0].permute(1, 2, 0), np.array(added[25][0])[:, ::-1])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_and_epochs(folder, change, context):
    if context == "spawn":  # a spawned worker imports torch anew, which takes seconds
        folder = Subset(folder, [0, 12, 13])
    joint = JointTransform(
        folder, v2.Compose([change(p=0.5, seed=5), v2.ToImage(), v2.ToDtype(torch.float32)])
    )

    def read(workers, loader=None):
        loader = loader or DataLoader(
            joint,
            4,
            num_workers=workers,
            multiprocessing_context=context if workers else None,
            persistent_workers=workers > 0,
        )
        images, labels = zip(*loader, strict=True)
        return torch.cat(images).numpy().tobytes(), torch.cat(labels).tolist(), loader

    reference = read(0)[:2]
    *made, loader = read(2 if context == "fork" else 1)
    assert tuple(made) == reference
    changed = sum(a != b for a, b in zip(reference[1], joint.targets, strict=True))
    assert 0 < changed < len(joint), "p is 0.5"
    epochs = []
    for epoch in (1, 0):
        joint.set_epoch(epoch)
        epochs.append(read(0, loader)[:2])
    assert epochs[1] == reference
    if context == "fork":
        assert epochs[0] != reference


def test_pickles(folder, change):
    joint = JointTransform(folder, v2.Compose([change(seed=1)]))
    again = pickle.loads(pickle.dumps(joint))
    assert np.array_equal(again[4][0], joint[4][0])
    assert again[4][1] == joint[4][1] == NEUTRAL
    assert again.classes == joint.classes
    assert repr(folder) in repr(joint)


@pytest.mark.parametrize("prefetcher", [True, False])
def test_under_timms_loader(faces, change, prefetcher):
    timm_data = pytest.importorskip("timm.data")
    base = timm_data.create_dataset("", str(faces))
    joint = JointTransform(base, change())
    loader = timm_data.create_loader(
        joint, input_size=(3, 64, 64), batch_size=10, num_workers=2, use_prefetcher=prefetcher,
        device=torch.device("cpu"),
    )  # fmt: skip
    assert base.transform is None
    assert joint.transform is not None
    batches = list(loader)
    assert [tuple(images.shape) for images, _ in batches] == [(10, 3, 64, 64)] * 2
    assert [labels.tolist() for _, labels in batches] == [[NEUTRAL] * 10, [HAPPY] * 10]


class TestAlbumentations:
    @pytest.fixture
    def door(self):
        pytest.importorskip("albumentations")
        from expraug.transforms import albumentations

        return albumentations.RandomExpression

    def test_image_and_label_change_together(self, folder, door, smile):
        import albumentations as A

        inner = door(synthesizer=smile, intensity=(1, 1), p=1, **unchecked())
        joint = JointTransform(folder, A.Compose([A.OneOf([inner], p=1)], seed=0))
        assert inner.scheme.classes == {0: "happy", 1: "neutral"}
        augmenter = crop_augmenter(smile, intensity=(1, 1))
        expected = ExpressionAugmentedDataset(folder, augmenter)
        for i in (0, 12):
            image, label = joint[i]
            assert isinstance(image, np.ndarray)
            assert label == expected[20 + i][1]
            assert np.array_equal(image, expected[20 + i][0])
        with pytest.raises(LabelError, match="at index 0"):
            JointTransform(folder, A.Compose([door(["neutral", "happy"], synthesizer=smile)]))

    def test_samples_of_every_kind(self, neutral_images, door, smile):
        import albumentations as A

        face = neutral_images[0]
        tensor = torch.from_numpy(face).permute(2, 0, 1)
        grey = Image.fromarray(face).convert("L")
        samples = [
            (face, 1, "name"),
            {"img": Image.fromarray(face), "emotion": 1, "id": 7},
            (tensor, torch.tensor(1)),
            (grey, 1),
        ]
        joint = JointTransform(
            samples,
            A.Compose([door(synthesizer=smile, p=1, **unchecked()), A.HorizontalFlip(p=1)], seed=0),
            ["happy", "neutral"],
        )
        assert joint[0][1:] == (0, "name")
        assert joint[1].keys() == {"img", "emotion", "id"}
        assert (joint[1]["emotion"], joint[1]["id"]) == (0, 7)
        assert joint[2][0].shape == face.shape
        assert int(joint[2][1]) == 0
        assert joint[3][0].shape == (256, 256)
        assert joint[3][1] == 0

    def test_in_workers(self, folder, door, smile):
        import albumentations as A

        joint = JointTransform(
            folder, A.Compose([door(synthesizer=smile, p=1, **unchecked())], seed=0)
        )
        labels = [label for _, part in DataLoader(joint, 5, num_workers=2) for label in part]
        assert [int(label) for label in labels] == [1 - label for label in folder.targets]
