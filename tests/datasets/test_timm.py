import numpy as np
import pytest
import torch

timm_data = pytest.importorskip("timm.data")

from crop_augmenter import crop_augmenter  # noqa: E402
from timm.loss import SoftTargetCrossEntropy  # noqa: E402

from expraug.datasets import ExpressionAugmentedDataset  # noqa: E402
from expraug.datasets.timm import ExpressionMixDataset  # noqa: E402

CPU = torch.device("cpu")


def images(faces):
    return timm_data.create_dataset("", str(faces))


@pytest.fixture
def mixed(faces, smile):
    """Return a function that mixes the sample faces with options."""
    return lambda **options: ExpressionMixDataset(images(faces), crop_augmenter(smile), **options)


def loader(dataset, **options):
    options = {
        "input_size": (3, 64, 64),
        "batch_size": 8,
        "is_training": True,
        "device": CPU,
    } | options
    options |= {"persistent_workers": options.get("num_workers", 0) > 0}
    return timm_data.create_loader(dataset, **options)


def test_classes_and_labels_come_from_the_reader(faces, monkeypatch, smile):
    base = images(faces)
    monkeypatch.setattr(type(base), "__getitem__", lambda self, i: pytest.fail("was read"))
    dataset = ExpressionMixDataset(base, crop_augmenter(smile))
    assert dataset.scheme.classes == {0: "happy", 1: "neutral"}
    assert dataset.targets == [0] * 10 + [1] * 20 + [0] * 10


def test_the_transform_comes_after_synthesis(faces, smile):
    base = images(faces)
    base.transform = lambda image: image.resize((32, 32))
    dataset = ExpressionMixDataset(base, crop_augmenter(smile), seed=2)
    assert base.transform is None
    plain = ExpressionAugmentedDataset(
        images(faces),
        crop_augmenter(smile),
        dataset.scheme,
        seed=2,
        labels=dataset.targets[:20],
    )
    image, target = dataset[25]
    assert type(dataset[25]) is tuple
    assert target == plain[25][1] == 1
    assert np.array_equal(image, plain[25][0].resize((32, 32)))
    dataset.transform = None
    assert dataset[25][0].size == (256, 256)


@pytest.mark.parametrize("prefetcher", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_create_loader(mixed, prefetcher, workers):
    made = loader(mixed(), use_prefetcher=prefetcher, num_workers=workers)
    batches = list(made)
    assert len(batches) == 5
    for pixels, targets in batches:
        assert pixels.shape == (8, 3, 64, 64)
        assert pixels.dtype == torch.float32
        assert targets.dtype == torch.int64
    assert sum(int(t.sum()) for _, t in batches) == 20


def test_soft_labels(mixed):
    dataset = mixed(soft_labels=True, copies=2)
    levels = [request.intensity for _, request in dataset._added]
    assert len(set(levels)) == 3
    for i, level in enumerate(levels, start=20):
        _, target = dataset[i]
        assert target.dtype == np.float32
        assert target[dataset.targets[i]] == pytest.approx(level)
        assert target.sum() == pytest.approx(1)
    assert dataset[0][1].tolist() == [1, 0]
    pixels, targets = next(iter(loader(dataset)))
    assert targets.shape == (8, 2)
    loss = SoftTargetCrossEntropy()(torch.zeros(8, 2), targets)
    assert loss == pytest.approx(np.log(2))
    mixup = timm_data.Mixup(num_classes=2, multi_label=True, label_smoothing=0.0)
    assert mixup(pixels, targets)[1].sum(dim=1) == pytest.approx(torch.ones(8))


def test_hard_labels_with_mixup(mixed):
    mixup = timm_data.Mixup(num_classes=2)
    pixels, targets = next(iter(loader(mixed(), use_prefetcher=False)))
    changed, soft = mixup(pixels, targets)
    assert changed.shape == pixels.shape
    assert soft.shape == (8, 2)
    collate = timm_data.FastCollateMixup(num_classes=2)
    _, soft = next(iter(loader(mixed(), collate_fn=collate)))
    assert soft.shape == (8, 2)


def test_soft_labels_of_one_hot_targets(faces, smile):
    base = timm_data.ImageDataset(
        str(faces), target_transform=lambda t: np.eye(2, dtype=np.float32)[t]
    )
    dataset = ExpressionMixDataset(base, crop_augmenter(smile), soft_labels=True)
    level = dataset._added[0][1].intensity
    assert dataset[0][1].tolist() == [1, 0]
    assert dataset[20][1] == pytest.approx(np.array([1 - level, level]))


def test_inside_augmix(mixed):
    dataset = timm_data.AugMixDataset(mixed(), num_splits=2)
    splits = loader(dataset, num_aug_splits=2, auto_augment="augmix-m3-w3", batch_size=4)
    pixels, targets = next(iter(splits))
    assert pixels.shape == (8, 3, 64, 64)
    assert torch.equal(targets[:4], targets[4:])


def test_what_cannot_be_made_keeps_its_own_target(faces, smile):
    class Never:
        fingerprint = "never"

        def score(self, faces, synthetic, target):
            return {"identity": torch.zeros(len(faces))}

        def rejection(self, scores):
            return "identity_lost"

    for soft in (False, True):
        dataset = ExpressionMixDataset(
            images(faces), crop_augmenter(smile, gate=Never()), soft_labels=soft
        )
        image, target = dataset[20]
        assert np.array_equal(image, dataset[0][0])
        assert (target.tolist() if soft else target) == ([1, 0] if soft else 0)


def test_replacing_samples_anew(mixed):
    dataset = mixed(mode="replace", seed=0)
    assert len(dataset) == 20
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append([dataset[i][1] for i in range(20)])
    assert epochs[0] == epochs[2] != epochs[1]


def test_tar_files_tell_their_labels(faces, tmp_path, smile):
    import tarfile

    with tarfile.open(tmp_path / "faces.tar", "w") as tar:
        tar.add(faces / "happy", "happy")
        tar.add(faces / "neutral", "neutral")
    dataset = ExpressionMixDataset(
        timm_data.ImageDataset(str(tmp_path / "faces.tar")), crop_augmenter(smile)
    )
    assert dataset.targets[:20] == [0] * 10 + [1] * 10
    assert [dataset[i][1] for i in (0, 20)] == [0, 1]
