"""FER2013 as an ImageFolder: right with no scheme, refused with "fer2013", at every door."""

import numpy as np
import pytest
from crop_augmenter import crop_augmenter
from fer_folder import FIRST_THAT_DIFFERS, NAMES, fer_folder
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from expraug import Expression, SynthesisRequest
from expraug.datasets import (
    ExpressionAugmentedDataset,
    ExpressionMap,
    ExpressionMixDataset,
    JointTransform,
)
from expraug.errors import LabelError
from expraug.transforms.torchvision import RandomExpression


@pytest.fixture(scope="module")
def root(shared, tmp_path_factory):
    """Two real FER2013 images of each class, in folders."""
    parquet = shared / "data" / "fer2013" / "train.parquet"
    return fer_folder(parquet, tmp_path_factory.mktemp("fer2013"))


@pytest.fixture
def folder(root):
    return ImageFolder(str(root))


@pytest.fixture
def augmenter(tmp_path):
    return crop_augmenter("pixel", cache=tmp_path / "cache")


def check(augmenter, source, own, image, label):
    """Assert that a picture was changed into what its new label says."""
    assert label != own
    pixels, target = np.array(source), Expression.parse(NAMES[label])
    requests = [SynthesisRequest(target, percent / 100) for percent in augmenter.percents]
    made = [outcome.image for outcome in augmenter([pixels] * len(requests), requests)]
    assert any(np.array_equal(image, picture) for picture in made)


def test_the_wrapper(folder, augmenter):
    dataset = ExpressionAugmentedDataset(folder, augmenter, copies=2)
    assert len(dataset) == 3 * 14
    for i in range(14, len(dataset)):
        check(augmenter, *folder[dataset.sources[i]], *dataset[i])
    replacing = ExpressionAugmentedDataset(folder, augmenter, mode="replace", p=1, seed=0)
    for i in range(14):
        check(augmenter, *folder[i], *replacing[i])
    for mode in ("add", "replace"):
        with pytest.raises(LabelError, match=FIRST_THAT_DIFFERS):
            ExpressionAugmentedDataset(folder, augmenter, "fer2013", mode=mode)


def test_timm(root, folder, augmenter):
    timm_data = pytest.importorskip("timm.data")
    dataset = ExpressionMixDataset(timm_data.create_dataset("", str(root)), augmenter)
    soft = ExpressionMixDataset(
        timm_data.create_dataset("", str(root)), augmenter, soft_labels=True
    )
    for i in range(14, 28):
        image, label = dataset[i]
        check(augmenter, *folder[dataset.sources[i]], image, label)
        assert soft[i][1][label] == pytest.approx(dataset._added[i - 14][1].intensity)
    with pytest.raises(LabelError, match=FIRST_THAT_DIFFERS):
        ExpressionMixDataset(timm_data.create_dataset("", str(root)), augmenter, "fer2013")


def test_datasets(root, augmenter, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(
        "imagefolder", data_dir=str(root), split="train", cache_dir=str(tmp_path / "hub")
    )
    assert rows.features["label"].names == NAMES
    for scheme in (None, rows.features["label"], NAMES):
        made = rows.map(ExpressionMap(augmenter, scheme), batched=True, batch_size=5)
        assert made.num_rows == 28
        for real, synthetic in zip(made[::2]["image"], range(1, 28, 2), strict=True):
            row = made[synthetic]
            check(augmenter, real, row["source_label"], row["image"], row["label"])
    with pytest.raises(LabelError, match=FIRST_THAT_DIFFERS):
        rows.map(ExpressionMap(augmenter, "fer2013"), batched=True)


def test_a_joint_transform(folder, augmenter):
    change = RandomExpression(augmenter=augmenter, p=1.0)
    joint = JointTransform(folder, v2.Compose([change]))
    for i in range(14):
        check(augmenter, *folder[i], *joint[i])
    refused = RandomExpression("fer2013", augmenter=augmenter)
    with pytest.raises(LabelError, match=FIRST_THAT_DIFFERS):
        JointTransform(folder, v2.Compose([v2.RandomApply([refused])]))
    with pytest.raises(LabelError, match=FIRST_THAT_DIFFERS):
        JointTransform(folder, v2.RandomHorizontalFlip(), "fer2013")


def test_warming(folder, augmenter):
    report = augmenter.warm(folder, progress=False)
    assert (report.planned, report.made, report.skipped) == (14 * 4, 14 * 4, {})
    augmenter.on_miss = "error"
    dataset = ExpressionAugmentedDataset(folder, augmenter, mode="replace", p=1, seed=0)
    made = [dataset[i] for i in range(14)]
    augmenter.on_miss = "synthesize"
    for i in range(14):
        check(augmenter, *folder[i], *made[i])
    with pytest.raises(LabelError, match=FIRST_THAT_DIFFERS):
        augmenter.warm(folder, "fer2013", progress=False)
