import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler, Subset
from torch.utils.data import random_split as split_at_random
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from expraug import Balance, Expression, ExpressionAugmenter, LabelScheme, Matrix, SynthesisRequest
from expraug.cache import image_digest
from expraug.datasets import ExpressionAugmentedDataset, is_synthetic, labels_of
from expraug.errors import LabelError

HAPPY, NEUTRAL = 0, 1


@pytest.fixture(scope="module")
def folder(faces):
    """Ten smiling and ten neutral people, small so that tests are fast."""
    return ImageFolder(str(faces), transform=v2.Resize((64, 64), antialias=True))


class Pixels(Dataset):
    """Gives index, pixels and label, as a loader can collate them."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return index, torch.from_numpy(np.array(image)), label


def read(dataset, workers=0, context=None, sampler=None):
    """Return {index: (pixels, label)} of an epoch through a loader."""
    loader = DataLoader(Pixels(dataset), batch_size=3, num_workers=workers, sampler=sampler,
                        multiprocessing_context=context)  # fmt: skip
    return {
        int(i): (image.numpy().tobytes(), int(label))
        for indices, images, labels in loader
        for i, image, label in zip(indices, images, labels, strict=True)
    }


class NeverHappy:
    """A gate that rejects the smiles of some people, by the brightness of their faces."""

    fingerprint = "never-happy"

    def score(self, faces, synthetic, target):
        return {"identity": faces.mean(dim=(1, 2, 3)) + (target != Expression.HAPPY)}

    def rejection(self, scores):
        return "" if scores["identity"] > 0.66 else "identity_lost"


def test_adding_keeps_the_real_samples_and_knows_every_label(folder, smile):
    dataset = ExpressionAugmentedDataset(folder, crop_augmenter(smile), copies=2)
    assert 20 < len(dataset) <= 60
    assert dataset.targets[:20] == folder.targets
    assert dataset.sources[:20] == list(range(20))
    assert labels_of(dataset) == dataset.targets
    assert is_synthetic(dataset) == [i >= 20 for i in range(len(dataset))]
    seen = []
    for i in range(len(dataset)):
        image, label = dataset[i]
        source, own = folder[dataset.sources[i]]
        assert label == dataset.targets[i]
        assert (label != own) == (i >= 20) == (not np.array_equal(image, source))
        seen.append((np.array(image).tobytes(), label))
    assert len(set(seen)) == len(seen), "the copies of a face must differ"
    assert dataset[-1][1] == dataset.targets[-1]
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_an_added_sample_is_what_the_augmenter_makes(folder, smile):
    augmenter = crop_augmenter(smile, intensity=(1, 1))
    image, label = ExpressionAugmentedDataset(folder, augmenter)[20]
    (outcome,) = augmenter([np.array(folder[0][0])], [SynthesisRequest(Expression.NEUTRAL)])
    assert label == NEUTRAL
    assert np.array_equal(image, outcome.image)


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_same_seed_same_samples(folder, tmp_path, mode, smile):
    """Whatever the workers and however they start, with and without what the cache holds."""

    def dataset(cache, seed=3):
        augmenter = crop_augmenter(smile, cache=cache)
        return ExpressionAugmentedDataset(folder, augmenter, mode=mode, seed=seed, p=0.7)

    first = dataset(tmp_path)
    reference = read(first)
    assert {label for _, label in reference.values()} == {HAPPY, NEUTRAL}
    assert read(first, 2, "fork") == reference
    if mode == "replace":  # a spawned worker imports torch anew, which takes seconds
        assert read(dataset(None), 1, "spawn") == reference
    assert read(dataset(tmp_path)) == reference
    assert read(dataset(None, seed=4)) != reference
    first.set_epoch(1)
    assert (read(first) == reference) == (mode == "add")
    assert read(first, 2, "fork") == read(first)


def test_replacing_without_a_seed_follows_torch(folder, tmp_path, smile):
    augmenter = crop_augmenter(smile, cache=tmp_path)
    dataset = ExpressionAugmentedDataset(folder, augmenter, mode="replace")
    assert len(dataset) == len(folder)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(read(dataset, 2, "fork"))
    assert runs[0] == runs[1] != runs[2]
    changed = sum(label != folder.targets[i] for i, (_, label) in runs[0].items())
    assert 4 <= changed <= 16, "p is 0.5"


def test_samplers_and_splits(folder, smile):
    dataset = ExpressionAugmentedDataset(folder, crop_augmenter(smile), copies=2, seed=1)
    expected = read(dataset)
    train, test = split_at_random(dataset, [0.8, 0.2], torch.Generator().manual_seed(0))
    assert len(train) + len(test) == len(dataset)
    assert labels_of(train) == [dataset.targets[i] for i in train.indices]
    assert is_synthetic(test) == [i >= 20 for i in test.indices]
    for i, sample in read(train).items():
        assert sample == expected[train.indices[i]]
    parts = [
        read(dataset, sampler=DistributedSampler(Pixels(dataset), 2, rank, seed=5))
        for rank in (0, 1)
    ]
    assert parts[0] | parts[1] == expected
    both = ConcatDataset([folder, dataset])
    assert labels_of(both) == folder.targets + dataset.targets
    assert is_synthetic(both) == [False] * 20 + is_synthetic(dataset)


def test_what_cannot_be_made_comes_out_real_and_warm_drops_it(folder, tmp_path, smile):
    augmenter = crop_augmenter(smile, gate=NeverHappy(), cache=tmp_path)
    dataset = ExpressionAugmentedDataset(folder, augmenter)
    before = [dataset[i] for i in range(len(dataset))]
    lost = [i for i in range(20, 40) if before[i][1] != dataset.targets[i]]
    assert lost
    assert lost != list(range(30, 40))
    for i in lost:
        source, own = folder[dataset.sources[i]]
        assert np.array_equal(before[i][0], source)
        assert before[i][1] == own
    report = dataset.warm(progress=False)
    assert report.skipped == {"identity_lost": len(lost)}
    assert sorted(index for index, _, _ in report.rejected) == [i - 20 for i in lost]
    assert len(dataset) == 40 - len(lost)
    for i in range(len(dataset)):
        assert dataset[i][1] == dataset.targets[i]
    assert augmenter.stats["made"] == 20 - len(lost), "warming makes nothing twice"


def test_no_face_no_change(folder, tmp_path, smile):
    blank = Image.new("RGB", (80, 80), "grey")
    pairs = [(blank, NEUTRAL), folder[10], (Image.new("L", (8, 8)), NEUTRAL)]
    augmenter = crop_augmenter(smile, alignment="detect", cache=tmp_path)
    dataset = ExpressionAugmentedDataset(pairs, augmenter, ["happy", "neutral"])
    assert len(dataset) == 6
    assert dataset[3] == (blank, NEUTRAL)
    assert dataset[4][1] == HAPPY
    assert dataset[5] == pairs[2]
    report = dataset.warm(progress=False)
    assert {i for i, _, _ in report.failures} == {0, 2}
    assert (len(dataset), dataset[3][1]) == (4, HAPPY)


def test_nothing_is_read_to_plan(folder, smile):
    class Unreadable(Dataset):
        classes, targets = folder.classes, folder.targets

        def __len__(self):
            return 20

        def __getitem__(self, index):
            raise OSError("read")

    dataset = ExpressionAugmentedDataset(Unreadable(), crop_augmenter(smile))
    assert len(dataset) == len(dataset.targets) == 40


def test_samples_of_every_kind(neutral_images, smile):
    augmenter = crop_augmenter(smile, intensity=(1, 1))
    face = neutral_images[0]
    tensor = torch.from_numpy(face).permute(2, 0, 1)
    expected = augmenter([face], [SynthesisRequest(Expression.HAPPY)])[0].image
    samples = [
        (face, 1, "file.jpg"),
        (tensor, torch.tensor(1)),
        [Image.fromarray(face), np.int64(1)],
        {"image": face, "label": "neutral", "identity": "ann"},
        {"image": face.astype(np.float32) / 255, "expression": 1},
    ]
    dataset = ExpressionAugmentedDataset(samples, augmenter, ["happy", "neutral"])
    made = [dataset[i] for i in range(5, 10)]
    assert [type(m) for m in made] == [tuple, tuple, list, dict, dict]
    assert np.array_equal(made[0][0], expected)
    assert made[0][1:] == (0, "file.jpg")
    assert torch.equal(made[1][0], torch.from_numpy(expected).permute(2, 0, 1))
    assert made[1][1] == 0
    assert isinstance(made[1][1], torch.Tensor)
    assert np.array_equal(made[2][0], expected)
    assert isinstance(made[2][1], np.int64)
    assert (made[3]["label"], made[3]["identity"]) == ("happy", "ann")
    assert made[4]["image"].dtype == np.float32
    assert np.array_equal(np.rint(made[4]["image"] * 255), expected)


def test_a_base_that_gives_another_sample_keeps_image_and_label_in_step(neutral_images, smile):
    """As timm's ImageDataset does with a damaged file."""
    augmenter = crop_augmenter(smile)
    pairs = [(neutral_images[0], HAPPY)]
    dataset = ExpressionAugmentedDataset(pairs, augmenter, ["happy", "neutral"], labels=[NEUTRAL])
    image, label = dataset[1]
    assert image is neutral_images[0]
    assert label == HAPPY
    assert augmenter.stats == {"label_not_as_planned": 1}


def test_policies_and_schemes(folder, smile):
    neutral_only = Subset(folder, range(8, 20))
    balanced = ExpressionAugmentedDataset(
        neutral_only,
        crop_augmenter(smile, policy=Balance({"happy": 2, "neutral": 10})),
        copies=3,
    )
    assert set(balanced.sources[12:]) <= set(range(2, 12)), "only of the frequent class"
    none = ExpressionAugmentedDataset(folder, crop_augmenter(smile, policy=Matrix({})))
    assert len(none) == 20
    no_smile = {"happy": None, "neutral": "neutral"}
    assert len(ExpressionAugmentedDataset(folder, crop_augmenter(smile), no_smile)) == 20
    with pytest.raises(LabelError, match="does not have 'happy'; there is no class 'bored'"):
        ExpressionAugmentedDataset(
            folder, crop_augmenter(smile), {"bored": None, "neutral": "neutral"}
        )
    with pytest.raises(LabelError, match="label 1 is outside"):
        ExpressionAugmentedDataset([(None, 1)], crop_augmenter(smile), ["happy"])
    with pytest.raises(LabelError, match="does not tell"):
        ExpressionAugmentedDataset([(None, 1)], crop_augmenter(smile))


def test_soft_and_one_hot_labels(neutral_images, smile):
    face = neutral_images[0]
    scheme = ["happy", "neutral"]
    labels = [
        [0, 1],
        (0.1, 0.9),
        np.array([0.2, 0.8], np.float32),
        torch.tensor([0.0, 1.0]),
        torch.tensor([0.5, 0.5]),  # says nothing: left alone
    ]
    dataset = ExpressionAugmentedDataset(
        [(face, label) for label in labels], crop_augmenter(smile), scheme
    )
    assert len(dataset) == 9
    for i, label in enumerate(labels[:4], start=5):
        image, made = dataset[i]
        assert not np.array_equal(image, face)
        assert type(made) is type(label)
        assert np.asarray(made).dtype == np.asarray(label).dtype or isinstance(label, tuple)
        assert list(made) == list(dataset.targets[i]) == [1, 0]
    replaced = ExpressionAugmentedDataset(
        [(face, labels[4])], crop_augmenter(smile), scheme, mode="replace", p=1
    )
    image, label = replaced[0]
    assert image is face
    assert label is labels[4]
    for wrong in ([0.5, 0.6], [1, 0, 0], np.array([1, 1]), [[1, 0]], 0.7, True, None):
        with pytest.raises(LabelError):
            ExpressionAugmentedDataset([(face, wrong)], crop_augmenter(smile), scheme)


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_a_normalised_base_is_refused(faces, smile, mode):
    normalise = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.2] * 3)]
    )
    base = ImageFolder(str(faces), transform=normalise)
    dataset = ExpressionAugmentedDataset(base, crop_augmenter(smile), mode=mode, p=1)
    with pytest.raises(ValueError, match="before Normalize"):
        dataset[len(dataset) - 1]


def test_replacing_samples_the_menu_of_the_image(folder, smile):
    augmenter = crop_augmenter(smile, per_image=2, seed=9)
    dataset = ExpressionAugmentedDataset(folder, augmenter, mode="replace", p=1, seed=0)
    for index in (0, 15):
        pixels = np.array(folder[index][0])
        source = dataset.scheme.expression(folder[index][1])
        menu = augmenter.menu(image_digest(pixels), source, dataset.scheme)
        offered = {o.image.tobytes() for o in augmenter([pixels] * 2, menu)}
        seen = set()
        for epoch in range(20):
            dataset.set_epoch(epoch)
            image, label = dataset[index]
            assert label != folder[index][1]
            seen.add(np.array(image).tobytes())
        assert seen == offered, "p = 1 changes every face, to all that it offers and nothing else"


def test_a_data_set_may_bring_its_scheme(smile):
    class Described(Dataset):
        scheme = LabelScheme.from_mapping({"joy": "happy", "bored": None})
        targets = (0, 1)

        def __len__(self):
            return 2

    dataset = ExpressionAugmentedDataset(Described(), crop_augmenter(smile))
    assert dataset.scheme is Described.scheme
    assert len(dataset) == 2, "there is no class for neutral faces"


def test_target_transforms_are_seen(faces, smile):
    folder = ImageFolder(str(faces), target_transform=lambda label: 1 - label)
    dataset = ExpressionAugmentedDataset(folder, crop_augmenter(smile), ["neutral", "happy"])
    assert dataset[20][1] == dataset.targets[20] == 0
    assert dataset[0][1] == dataset.targets[0] == 1


def test_wrong_arguments(folder, smile):
    for wrong in (
        {"mode": "append"},
        {"copies": 0},
        {"copies": 5},
        {"copies": 2, "mode": "replace"},
        {"p": 2},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ExpressionAugmentedDataset(folder, crop_augmenter(smile), **wrong)
    with pytest.raises(ValueError, match="3 labels for 20"):
        ExpressionAugmentedDataset(folder, crop_augmenter(smile), labels=[0, 1, 0])
    with pytest.raises(ValueError, match="needs a cache"):
        ExpressionAugmentedDataset(folder, crop_augmenter(smile)).warm()


class _Labels(list):
    """A data set of labels alone: planning needs no more."""

    classes = ("happy", "neutral")
    targets = property(list)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=30),
    st.integers(1, 4),
    st.floats(0, 1),
    st.integers(-(2**70), 2**70),
)
def test_a_plan_never_contradicts_itself(labels, copies, p, seed):
    dataset = ExpressionAugmentedDataset(_Labels(labels), _AUGMENTER, copies=copies, p=p, seed=seed)
    added = dataset.sources[len(labels) :]
    assert len(dataset) == len(dataset.targets) == len(dataset.sources)
    assert dataset.targets[: len(labels)] == labels
    assert added == sorted(added)
    assert all(added.count(source) <= copies for source in added)
    pairs = zip(dataset.targets[len(labels) :], added, strict=True)
    assert all(target != labels[source] for target, source in pairs)
    again = ExpressionAugmentedDataset(_Labels(labels), _AUGMENTER, copies=copies, p=p, seed=seed)
    assert (again.targets, again.sources) == (dataset.targets, dataset.sources)


_AUGMENTER = crop_augmenter("unet_cgan")


def test_with_transfer(folder, tmp_path):
    augmenter = ExpressionAugmenter("transfer", cache=tmp_path)
    base = [folder[0], folder[10]]
    scheme = ["happy", "neutral", "sad", "surprise", "fear", "disgust", "angry", "contempt"]
    dataset = ExpressionAugmentedDataset(base, augmenter, scheme, copies=2)
    assert len(dataset) == 6
    report = dataset.warm(progress=False)
    assert report.made == len(dataset) - 2
    for (_, label), target in zip(dataset, dataset.targets, strict=True):
        assert label == target
