"""One image and one request through every door give the same bytes: there is one path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from expraug import (
    Expression,
    ExpressionAugmentedDataset,
    ExpressionAugmenter,
    ExpressionMap,
    JointTransform,
    SynthesisRequest,
    Uniform,
    augment,
)
from expraug.evaluate.evaluation import build_context
from expraug.expand import contact_sheet, expand, preview
from expraug.transforms.torchvision import RandomExpression

HAPPY, NEUTRAL = Expression.HAPPY, Expression.NEUTRAL
REQUEST = SynthesisRequest(HAPPY)
CLASSES = ["happy", "neutral"]


@pytest.fixture(scope="module", params=["pixel", "unet_cgan", "transfer"])
def synthesizer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """One neutral face and one that smiles, as lossless files."""
    root = tmp_path_factory.mktemp("one")
    for name in CLASSES:
        (root / name).mkdir()
        path = sorted((faces / name).iterdir())[0]
        Image.open(path).convert("RGB").resize((160, 160)).save(root / name / "face.png")
    return root


@pytest.fixture(scope="module")
def image(folder: Path) -> np.ndarray:
    return np.array(Image.open(folder / "neutral" / "face.png"))


def augmenter_for(synthesizer: str) -> ExpressionAugmenter:
    """One whose menus hold nothing but the request."""
    return ExpressionAugmenter(synthesizer, policy=Uniform([HAPPY]), intensity=(1.0, 1.0))


class Expected:
    """What the augmenter makes of the request, in each of the synthesizer's variants."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images

    def __eq__(self, other: object) -> bool:
        return any(np.array_equal(np.asarray(other), image) for image in self.images)


@pytest.fixture(scope="module")
def expected(synthesizer: str, image: np.ndarray) -> Expected:
    augmenter = augmenter_for(synthesizer)
    asked = [SynthesisRequest(HAPPY, variant=v) for v in range(augmenter.synthesizer.variants)]
    outcomes = augmenter([image] * len(asked), asked)
    made = [o.image for o in outcomes if o.target is HAPPY]
    assert len(made) >= 0.9 * len(asked), "the gate refuses few"
    assert not any(np.array_equal(one, image) for one in made)
    return Expected(made)


def test_one_call(synthesizer, folder, image, expected):
    made = augment(folder / "neutral" / "face.png", "neutral", "happy", synthesizer=synthesizer)
    assert expected == np.array(made)
    assert expected == augment(image, NEUTRAL, HAPPY, synthesizer=synthesizer)


def test_torchvision(synthesizer, image, expected):
    door = RandomExpression(CLASSES, p=1.0, augmenter=augmenter_for(synthesizer))
    made, label = door(Image.fromarray(image), 1)
    assert label == 0
    assert expected == np.array(made)
    batch = torch.from_numpy(image).permute(2, 0, 1).expand(2, -1, -1, -1)
    many, labels = door(batch, torch.tensor([1, 1]))
    assert labels.tolist() == [0, 0]
    assert expected == many[1].permute(1, 2, 0).numpy()


def test_albumentations(synthesizer, image, expected):
    albumentations = pytest.importorskip("expraug.transforms.albumentations")
    door = albumentations.RandomExpression(CLASSES, p=1.0, augmenter=augmenter_for(synthesizer))
    made = door(image=image, label=1)
    assert made["label"] == 0
    assert expected == made["image"]


def test_data_sets(synthesizer, folder, expected):
    base = ImageFolder(folder)
    replaced = ExpressionAugmentedDataset(base, augmenter_for(synthesizer), mode="replace", p=1.0)
    joint = JointTransform(base, RandomExpression(p=1.0, augmenter=augmenter_for(synthesizer)))
    for data in (replaced, joint):
        made, label = data[1]
        assert label == 0
        assert expected == np.array(made)


def test_hugging_face(synthesizer, folder, expected):
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    made = rows.map(ExpressionMap(augmenter_for(synthesizer), mode="replace", p=1.0), batched=True)
    assert expected == np.array(made[1]["image"])


def test_expand(synthesizer, folder, expected, tmp_path):
    expand(folder, tmp_path / "out", synthesizer=synthesizer, targets=["happy"], gate=None)
    (file,) = (tmp_path / "out" / "happy").glob("*.png")
    assert expected == np.array(Image.open(file))


def test_preview(synthesizer, folder, expected, tmp_path, monkeypatch):
    shown: list[np.ndarray] = []
    crop = contact_sheet.crop

    def spy(image: np.ndarray, points: np.ndarray) -> np.ndarray:
        shown.append(image)
        return crop(image, points)

    monkeypatch.setattr(contact_sheet, "crop", spy)
    preview(folder, tmp_path / "sheet.png", synthesizer=synthesizer)
    assert any(expected == image for image in shown)


def test_evaluate(synthesizer, folder, expected):
    context = build_context(synthesizer, folder, split="all", targets=[HAPPY], limit=5)
    neutral = context.data.of(NEUTRAL)
    ((_, outcome),) = context.outcomes(REQUEST, neutral)
    assert expected == outcome.image


def test_the_last_frame_of_a_clip(synthesizer, image, expected):
    clip = augmenter_for(synthesizer).clip(image, "neutral", "happy", 3)
    assert expected == clip[-1].transpose(1, 2, 0)
