"""Every synthesizer with embedded weights goes through every door, without the door knowing it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from typer.testing import CliRunner

from expraug import (
    Expression,
    ExpressionAugmenter,
    LabelScheme,
    Uniform,
    create_synthesizer,
    list_synthesizers,
)
from expraug.cache import image_digest
from expraug.cli import app
from expraug.datasets import ExpressionAugmentedDataset
from expraug.transforms.torchvision import RandomExpression

CLASSES = ["happy", "neutral"]


@pytest.fixture(params=list_synthesizers(pretrained=True))
def synthesizer(request):
    return request.param


@pytest.fixture
def photographs(tmp_path, neutral_images, happy_images):
    """A folder of classes with two small photographs of each."""
    for name, images in (("neutral", neutral_images), ("happy", happy_images)):
        folder = tmp_path / "photographs" / name
        folder.mkdir(parents=True)
        for number, image in enumerate(images[:2]):
            Image.fromarray(image).resize((128, 128)).save(folder / f"{number}.png")
    return tmp_path / "photographs"


def differ(before, after):
    return bool((np.asarray(before, int) != np.asarray(after, int)).any())


def test_torchvision(synthesizer, neutral_images):
    image = tv_tensors.Image(torch.from_numpy(neutral_images[0].copy()).permute(2, 0, 1))
    door = RandomExpression(CLASSES, p=1.0, targets=["happy"], synthesizer=synthesizer)
    made, label = door(image, CLASSES.index("neutral"))
    assert label == CLASSES.index("happy")
    assert differ(image.permute(1, 2, 0), made.permute(1, 2, 0))


def test_albumentations(synthesizer, neutral_images):
    pytest.importorskip("albumentations")
    from expraug.transforms.albumentations import RandomExpression as Door

    door = Door(CLASSES, synthesizer, targets=["happy"], p=1.0)
    made = door(image=neutral_images[0], label=CLASSES.index("neutral"))
    assert made["label"] == CLASSES.index("happy")
    assert differ(neutral_images[0], made["image"])


def test_all_transforms_make_the_same_bytes(synthesizer, neutral_images):
    """What the augmenter makes of the same request, whoever asks."""
    albumentations = pytest.importorskip("expraug.transforms.albumentations")
    augmenter = ExpressionAugmenter(
        synthesizer, policy=Uniform(["happy"]), intensity=(0.8, 0.8), per_image=1
    )
    pixels = neutral_images[0]
    scheme = LabelScheme.from_classes(CLASSES)
    request = augmenter.sample_request(image_digest(pixels), Expression.NEUTRAL, 0.0, scheme)
    assert request.target is Expression.HAPPY
    expected = augmenter([pixels], [request])[0].image
    neutral = CLASSES.index("neutral")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    door = RandomExpression(CLASSES, augmenter=augmenter, p=1.0)
    other = albumentations.RandomExpression(CLASSES, augmenter=augmenter, p=1.0)
    made = {
        "PIL": door(Image.fromarray(pixels), neutral)[0],
        "tensor": door(tensor, neutral)[0].permute(1, 2, 0),
        "batch": door(tensor[None], torch.tensor([neutral]))[0][0].permute(1, 2, 0),
        "albumentations": other(image=pixels, label=neutral)["image"],
    }
    for name, image in made.items():
        assert np.array_equal(np.asarray(image), expected), name


def test_dataset_and_warm(synthesizer, photographs, tmp_path):
    base = ImageFolder(photographs)
    augmenter = ExpressionAugmenter(
        synthesizer, policy=Uniform(["happy"]), cache=tmp_path / "cache"
    )
    data = ExpressionAugmentedDataset(base, augmenter)
    data.warm(progress=False)
    assert data.targets[len(base) :] == [CLASSES.index("happy")] * 2
    made, label = data[len(base)]
    assert label == CLASSES.index("happy")
    assert differ(base[data.sources[len(base)]][0], made)


def test_hugging_face(synthesizer, photographs):
    datasets = pytest.importorskip("datasets")
    from expraug.datasets.hf import ExpressionMap

    rows = datasets.load_dataset("imagefolder", data_dir=str(photographs), split="train")
    augmenter = ExpressionAugmenter(synthesizer, intensity=(1.0, 1.0))
    made = rows.map(ExpressionMap(augmenter), batched=True)
    model, names = create_synthesizer(synthesizer), rows.features["label"].names
    shown = [Expression.parse(names[label]) for label in rows["label"]]
    changed = [s for s in shown if any(model.supports(s, target) for target in model.expressions)]
    assert changed
    assert made.num_rows == rows.num_rows + len(changed)


def test_expand(synthesizer, photographs, tmp_path):
    out = tmp_path / "expanded"
    arguments = [
        "expand",
        str(photographs),
        str(out),
        "--synthesizer",
        synthesizer,
        "--gate",
        "none",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = pq.read_table(out / "manifest.pq").to_pylist()
    asked = [row for row in rows if row["target"]]
    model = create_synthesizer(synthesizer)
    pairs = [(Expression.HAPPY, Expression.NEUTRAL), (Expression.NEUTRAL, Expression.HAPPY)]
    assert len(asked) == 2 * sum(model.supports(*pair) for pair in pairs)
    files = {row["file"] for row in asked} - {None}
    assert files == {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert files
    assert {row["reason"] for row in asked if not row["file"]} <= {"landmarks_disagree"}


def test_evaluate(synthesizer, photographs, tmp_path):
    report = tmp_path / "report.json"
    arguments = ["evaluate", "--synthesizer", synthesizer, "--data", str(photographs)]
    arguments += ["--measure", "classifier_recall", "--measure", "throughput"]
    result = CliRunner().invoke(
        app, [*arguments, "--split", "all", "--limit", "1", "--json", str(report)]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert str(Expression.HAPPY) in json.dumps(found)
