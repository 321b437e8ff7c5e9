"""Pictures for the reference: what each public class does, shown on the sample faces.

    python docs/pictures.py [FOLDER]

Nothing here is drawn by hand: every face comes out of the class that the picture is of. The
pictures are no part of the repository; `mkdocs build` draws those that are missing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torchvision.datasets import ImageFolder

import expraug
from expraug import Expression, ExpressionAugmenter, SynthesisRequest
from expraug.cache import image_digest

sys.path.insert(0, str(Path(__file__).parent))
from drawing import (
    EIGHT,
    FACES,
    Cell,
    as_rows,
    augmenter,
    chances,
    face,
    figure_as_image,
    grid,
    outcome,
    pixels_of,
    scored,
    told,
)

DRAWINGS: dict[str, Callable[[], Image.Image]] = {}
"""What draws the picture of each name below `expraug`."""


def of(*names: str) -> Callable[[Callable[[], Image.Image]], Callable[[], Image.Image]]:
    """Decorator: say whose picture a function draws."""

    def add(function: Callable[[], Image.Image]) -> Callable[[], Image.Image]:
        DRAWINGS.update(dict.fromkeys(names, function))
        return function

    return add


@of("Expression")
def expressions() -> Image.Image:
    cells: list[Cell] = [(face(1), f"{int(Expression.NEUTRAL)}: neutral")]
    for target in EIGHT:
        made = expraug.augment(Image.fromarray(face(1)), "neutral", target)
        cells.append((made, f"{int(target)}: {target}"))
    return grid([cells[:4], cells[4:]])


@of("LabelScheme")
def label_scheme() -> Image.Image:
    rows = []
    for name in ("fer2013", "affectnet-7"):
        scheme = expraug.LabelScheme.resolve(name)
        assert scheme is not None
        row: list[Cell] = []
        for index, class_name in sorted(scheme.classes.items())[:7]:
            shown = scheme.expressions[index]
            picture = face(3)
            if shown is not None and shown is not Expression.NEUTRAL:
                picture = np.asarray(expraug.augment(picture, "neutral", shown))
            row.append((picture, f"{name} {index}\n{class_name}"))
        rows.append(row)
    return grid(rows, 112)


@of("augment")
def augment() -> Image.Image:
    cells = [(face(4), "neutral")]
    for target in (Expression.HAPPY, Expression.SURPRISE, Expression.ANGRY):
        cells.append((expraug.augment(face(4), "neutral", target), f"augment(..., '{target}')"))
    return grid([cells])


@of("detect_faces")
def detect_faces() -> Image.Image:
    both = np.concatenate([face(2), face(5)], 1)
    (found,) = expraug.detect_faces([both])
    drawn = Image.fromarray(both)
    pen = ImageDraw.Draw(drawn)
    for number, one in enumerate(found):
        for x, y in one.mesh if one.mesh is not None else one.points:
            pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill="lime")
        x, y = one.points.mean(0)
        pen.text((x, 12), f"face={number}", "red", ImageFont.load_default(16), anchor="mm")
    return drawn


@of("SynthesisRequest")
def request() -> Image.Image:
    # without checks: half an expression need not be one that a classifier sees
    unchecked = ExpressionAugmenter(check_landmarks=False)
    asked = [
        [SynthesisRequest(Expression.HAPPY, intensity=i) for i in (0.25, 0.5, 0.75, 1.0)],
        [SynthesisRequest(Expression.SURPRISE, variant=v) for v in range(4)],
    ]
    rows = [zip(unchecked([face(5)] * 4, row), row, strict=True) for row in asked]
    return grid(
        [
            [
                (made.image, f"{wanted.target}, {wanted.intensity}, variant {wanted.variant}")
                for made, wanted in row
            ]
            for row in rows
        ]
    )


@of("Outcome")
def outcomes() -> Image.Image:
    made = outcome(face(6), Expression.HAPPY)
    kept = augmenter()([np.full_like(face(6), 128)], [SynthesisRequest(Expression.HAPPY)])[0]
    return grid(
        [
            [
                (face(6), "source"),
                (made.image, f"target={made.target}\nreason={made.reason!r}"),
                (kept.image, f"target={kept.target}\nreason={kept.reason!r}"),
            ]
        ]
    )


@of("ExpressionAugmenter")
def menu() -> Image.Image:
    rows = []
    for number in (0, 7):
        image, row = face(number), [(face(number), "neutral")]
        asked = augmenter().menu(image_digest(image), Expression.NEUTRAL)
        for wanted, made in zip(asked, augmenter()([image] * len(asked), asked), strict=True):
            assert wanted is not None
            text = f"{wanted.target}, {wanted.intensity:.1f}, variant {wanted.variant}"
            row.append((made.image, text if made.target else f"{text}\n{told(made)}"))
        rows.append(row)
    return grid(rows)


@of("SynthesisCache")
def cached() -> Image.Image:
    with TemporaryDirectory() as folder:
        door = ExpressionAugmenter(cache=folder)
        images = [face(n) for n in range(4)]
        asked = [SynthesisRequest(Expression.HAPPY)] * 4
        rows = [
            [(one.image, f"cached={one.cached}") for one in door(images, asked)] for _ in range(2)
        ]
    return grid(rows)


@of("Uniform")
def uniform() -> Image.Image:
    return chances(expraug.Uniform())


@of("Balance")
def balance() -> Image.Image:
    # the training images of FER2013
    counts: dict[Expression | str, int] = {
        "angry": 3995,
        "disgust": 436,
        "fear": 4097,
        "happy": 7215,
        "sad": 4830,
        "surprise": 3171,
        "neutral": 4965,
    }
    return chances(expraug.Balance(counts))


@of("Matrix")
def matrix() -> Image.Image:
    return chances(
        expraug.Matrix({"neutral": {"fear": 0.5, "disgust": 0.5}, "sad": {"angry": 1.0}})
    )


@of("IdentityGate")
def identity_gate() -> Image.Image:
    return scored(expraug.IdentityGate(), "identity")


@of("ExpressionGate")
def expression_gate() -> Image.Image:
    return scored(expraug.ExpressionGate(), "expression")


@of("AllGates")
def all_gates() -> Image.Image:
    gates = expraug.AllGates([expraug.IdentityGate(), expraug.ExpressionGate()])
    return scored(gates, "identity expression")


@of("JointTransform", "transforms.torchvision.RandomExpression")
def joint() -> Image.Image:
    from torchvision.transforms import v2

    from expraug.transforms.torchvision import RandomExpression

    torch.manual_seed(3)
    folder = ImageFolder(str(FACES))
    door = RandomExpression(augmenter=augmenter(), p=1.0)
    train = expraug.JointTransform(folder, v2.Compose([door, v2.RandomHorizontalFlip()]))
    return before_and_after(folder, [train[i] for i in (0, 3, 10, 13, 16)], (0, 3, 10, 13, 16))


def before_and_after(folder: Any, samples: Sequence[Any], indices: Sequence[int]) -> Image.Image:
    rows: list[list[Cell]] = [[], []]
    for index, (image, label) in zip(indices, samples, strict=True):
        source, own = folder[index]
        rows[0].append((source, f"in: {own} {folder.classes[own]}"))
        rows[1].append((pixels_of(image), f"out: {label} {folder.classes[label]}"))
    return grid(rows)


@of("transforms.albumentations.RandomExpression")
def albumentations() -> Image.Image:
    import albumentations as A

    from expraug.transforms.albumentations import RandomExpression

    folder = ImageFolder(str(FACES))
    door = RandomExpression(augmenter=augmenter(), p=0.7)
    turns = A.Compose([door, A.Rotate(15, p=1.0)], seed=1)
    train = expraug.JointTransform(folder, turns)
    return before_and_after(folder, [train[i] for i in (1, 4, 11, 14, 17)], (1, 4, 11, 14, 17))


@of("transforms.video.RandomExpressionClip")
def clip() -> Image.Image:
    frames = augmenter().clip(face(2), "neutral", "surprise", 6)
    return grid([[(f.transpose(1, 2, 0), f"frame {n}") for n, f in enumerate(frames)]])


@of("ExpressionAugmentedDataset", "datasets.timm.ExpressionMixDataset")
def wrapped() -> Image.Image:
    from torch.utils.data import Subset

    folder = ImageFolder(str(FACES))
    data = expraug.ExpressionAugmentedDataset(Subset(folder, [2, 5, 12, 15]), augmenter())
    cells = []
    for index in range(len(data)):
        image, label = data[index]
        made = "" if index < 4 else f", of {data.sources[index]}"
        cells.append((image, f"index {index}{made}\n{label} {folder.classes[label]}"))
    return grid([cells[:4], cells[4:]])


@of("BalancedExpressionSampler")
def sampler() -> Image.Image:
    import matplotlib.pyplot as plt
    from torch.utils.data import Subset

    folder = ImageFolder(str(FACES))
    few = Subset(folder, [0, 1, *range(10, 20)])  # two smiles, ten neutral faces
    data = expraug.ExpressionAugmentedDataset(few, augmenter(), copies=1)
    drawn = list(expraug.BalancedExpressionSampler(data, num_samples=400, seed=0))
    figure, axes = plt.subplots(figsize=(6.4, 2.2))
    parts = {"data set": range(len(few)), "with synthetic": range(len(data)), "drawn": drawn}
    for row, (name, indices) in enumerate(parts.items()):
        kinds = Counter(
            (folder.classes[data.targets[i]], i >= len(few)) for i in indices
        )  # class, synthetic
        left = 0.0
        for colour, kind in zip(
            ("#00796b", "#80cbc4", "#5d4037", "#d7ccc8"),
            [("happy", False), ("happy", True), ("neutral", False), ("neutral", True)],
            strict=True,
        ):
            share = kinds[kind] / sum(kinds.values())
            label = f"{'synthetic' if kind[1] else 'real'} {kind[0]}" if row == 0 else None
            axes.barh(name, share, left=left, color=colour, label=label)
            left += share
    axes.legend(ncols=4, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.22))
    axes.invert_yaxis()
    return figure_as_image(figure)


@of("ExpressionMap")
def rows_of_a_table() -> Image.Image:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    kinds = Features({"image": ImageFeature(), "label": ClassLabel(names=["happy", "neutral"])})
    rows = Dataset.from_dict(
        {"image": [Image.fromarray(face(n)) for n in (3, 6)], "label": [1, 1]}, features=kinds
    )
    made = rows.map(
        expraug.ExpressionMap(augmenter()),
        batched=True,
        keep_in_memory=True,
        load_from_cache_file=False,
    )
    names = made.features["label"].names
    return grid(
        [
            [
                (row["image"], f"label={names[row['label']]}\nsynthetic={row['synthetic']}")
                for row in made
            ]
        ]
    )


@of("Synthesizer", "create_synthesizer")
def synthesizers() -> Image.Image:
    targets = [Expression.HAPPY, Expression.SURPRISE, Expression.SAD]
    rows = []
    for target in targets:
        row = [(face(5), "source")]
        for name in expraug.list_synthesizers(pretrained=True):
            made = ExpressionAugmenter(name, check_landmarks=False)(
                [face(5)], [SynthesisRequest(target)]
            )[0]
            row.append((made.image, f"{name}: {target}"))
        rows.append(row)
    return grid(rows)


@of("SynthesizedFaces")
def maps() -> Image.Image:
    from expraug.faces.align import align_image
    from expraug.faces.landmarks import LandmarkDetector
    from expraug.faces.synthesized import canonical_part

    model = expraug.create_synthesizer("unet_cgan")
    image = face(1)
    (found,) = LandmarkDetector()([image])
    assert found is not None
    pixels = align_image(image, found.points, model.image_size)[None] / 255
    made = model.synthesize(pixels, torch.tensor([int(Expression.SURPRISE)]), torch.ones(1))
    result = as_rows((made.render(pixels)[0] * 255).byte())
    cells: list[Cell] = [
        (as_rows((pixels[0] * 255).byte()), "aligned face"),
        (result, "rendered"),
    ]
    change = as_rows(((made.change[0] * 2 + 0.5).clamp(0, 1) * 255).byte())
    cells.append((change, "change (grey: none)"))
    if made.flow is not None:
        length = canonical_part(made.flow)[0].norm(dim=0)
        shade = (length / length.max() * 255).byte().numpy()
        cells.append((Image.fromarray(shade), "flow: how far"))
    if made.matte is not None:
        cells.append((Image.fromarray((made.matte[0, 0] * 255).byte().numpy()), "matte"))
    return grid([cells])


def draw(folder: Path) -> list[Path]:
    """Draw the pictures that a folder lacks, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[Callable[[], Image.Image], Image.Image] = {}
    made = []
    for name, function in DRAWINGS.items():
        file = folder / f"{name}.png"
        if file.exists():
            continue
        if function not in drawn:
            drawn[function] = function()
        drawn[function].save(file, optimize=True)
        made.append(file)
    return made


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures"
    for file in draw(target):
        print(file)
