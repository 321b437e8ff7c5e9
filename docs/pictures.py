"""Pictures for the reference: what each public class does, shown on the sample faces.

    python docs/pictures.py [FOLDER]

Nothing here is drawn by hand: every face comes out of the class that the picture is of. The pictures
are no part of the repository; `mkdocs build` draws those that are missing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
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

FACES = Path(__file__).parents[1] / "examples" / "faces"
SIDE = 144  # of a face, in pixels
CAPTION = 20  # of a line under it
INK = (30, 30, 30)
EIGHT = [e for e in Expression if e is not Expression.NEUTRAL]

Cell = tuple[Any, str]
"""A picture, as array or PIL image, and the lines under it."""

DRAWINGS: dict[str, Callable[[], Image.Image]] = {}
"""What draws the picture of each name below `expraug`."""


def of(*names: str) -> Callable[[Callable[[], Image.Image]], Callable[[], Image.Image]]:
    """Decorator: say whose picture a function draws."""

    def add(function: Callable[[], Image.Image]) -> Callable[[], Image.Image]:
        DRAWINGS.update(dict.fromkeys(names, function))
        return function

    return add


def grid(rows: Sequence[Sequence[Cell]], side: int = SIDE) -> Image.Image:
    """Return cells in rows, each picture with its caption under it."""
    lines = [max(text.count("\n") + 1 for _, text in row) for row in rows]
    width, height = max(map(len, rows)) * (side + 6), sum(side + CAPTION * n for n in lines)
    sheet = Image.new("RGB", (width, height), "white")
    pen, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(13), 0
    for row, count in zip(rows, lines, strict=True):
        for column, (picture, text) in enumerate(row):
            left = column * (side + 6) + 3
            image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
            sheet.paste(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS),
                        (left, top))  # fmt: skip
            for number, line in enumerate(text.split("\n")):
                at = (left + side / 2, top + side + CAPTION * (number + 0.5))
                pen.text(at, line, INK, font, anchor="mm")
        top += side + CAPTION * count
    return sheet


def face(number: int = 0, expression: str = "neutral") -> np.ndarray:
    """Return a sample face, (256, 256, 3) uint8."""
    return np.asarray(Image.open(sorted((FACES / expression).iterdir())[number]).convert("RGB"))


@cache
def augmenter(synthesizer: str = "transfer") -> ExpressionAugmenter:
    return ExpressionAugmenter(synthesizer, gate="natural")


def outcome(image: np.ndarray, target: Expression, **asked: Any) -> Any:
    return augmenter()([image], [SynthesisRequest(target, **asked)])[0]


def told(made: Any) -> str:
    return str(made.target) if made.target is not None else f"kept: {made.reason}"


def pixels_of(image: Any) -> np.ndarray:
    return np.asarray(image) if not isinstance(image, torch.Tensor) else as_rows(image)


def as_rows(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


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
    steps = [
        (expraug.augment(face(5), "neutral", "happy", intensity=i), f"happy, intensity {i}")
        for i in (0.25, 0.5, 0.75, 1.0)
    ]
    kinds = [
        (expraug.augment(face(5), "neutral", "surprise", variant=v), f"surprise, variant {v}")
        for v in (0, 1, 2, 3)
    ]
    return grid([steps, kinds])


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


def chances(policy: Any) -> Image.Image:
    """Return how likely each target (column) is for each source (row), as squares."""
    everything, cell, left, top = list(Expression), 46, 84, 24
    size = (left + cell * len(everything), top + cell * len(everything) * 5 // 8)
    sheet = Image.new("RGB", (size[0], size[1] + 4), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    height = cell * 5 // 8
    for column, target in enumerate(everything):
        pen.text((left + cell * (column + 0.5), 12), str(target)[:8], INK, font, anchor="mm")
    for row, source in enumerate(everything):
        y = top + height * row
        pen.text((4, y + height / 2), f"from {source}", INK, font, anchor="lm")
        others = [e for e in everything if e is not source]
        found = policy.probabilities(source, others)
        for column, target in enumerate(everything):
            chance, x = found.get(target, 0.0), left + cell * column
            shade = tuple(round(255 - chance**0.5 * (255 - c)) for c in (0, 121, 107))
            pen.rectangle((x, y, x + cell - 2, y + height - 2), fill=shade)
            if chance:
                ink = "white" if chance > 0.3 else INK
                where = (x + cell / 2, y + height / 2)
                pen.text(where, f"{chance:.2f}", ink, font, anchor="mm")
    return sheet


@of("Uniform")
def uniform() -> Image.Image:
    return chances(expraug.Uniform())


@of("Balance")
def balance() -> Image.Image:
    # the training images of FER2013
    counts = {"angry": 3995, "disgust": 436, "fear": 4097, "happy": 7215, "sad": 4830,
              "surprise": 3171, "neutral": 4965}  # fmt: skip
    return chances(expraug.Balance(counts))


@of("Matrix")
def matrix() -> Image.Image:
    return chances(
        expraug.Matrix({"neutral": {"fear": 0.5, "disgust": 0.5}, "sad": {"angry": 1.0}})
    )


def scored(gate: Any, key: str) -> Image.Image:
    """Return what a gate says of some faces, one of them another person's."""
    source, other = face(8), face(9)
    targets = [Expression.HAPPY, Expression.SURPRISE, Expression.CONTEMPT]
    faces = [np.asarray(expraug.augment(source, "neutral", t)) for t in targets]
    shown = [*faces, source, other]
    wanted = [*targets, Expression.HAPPY, Expression.NEUTRAL]

    def stack(images: Sequence[np.ndarray]) -> torch.Tensor:
        from expraug.faces.align import align_image

        found = expraug.detect_faces(list(images), alignment="crop")
        aligned = [align_image(i, f[0].points, 96) for i, f in zip(images, found, strict=True)]
        pixels = np.stack([np.asarray(one) for one in aligned])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255

    scores = gate.score(stack([source] * len(shown)), stack(shown),
                        torch.tensor([int(t) for t in wanted]))  # fmt: skip
    cells: list[Cell] = [(source, "source\n")]
    for row, (picture, target) in enumerate(zip(shown, wanted, strict=True)):
        own = {name: float(values[row]) for name, values in scores.items()}
        reason = gate.rejection(own) or "passes"
        figure = ", ".join(f"{own[k]:.2f}" for k in key.split())
        cells.append((picture, f"as {target}: {figure}\n{reason}"))
    return grid([cells])


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
    door = RandomExpression(augmenter=augmenter(), p=0.7)
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


def figure_as_image(figure: Any) -> Image.Image:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    return drawn


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
    aligned = np.asarray(align_image(image, found.points, model.image_size))
    pixels = torch.from_numpy(aligned).permute(2, 0, 1)[None].float() / 255
    made = model.synthesize(pixels, torch.tensor([int(Expression.SURPRISE)]), torch.ones(1))
    result = as_rows((made.render(pixels)[0] * 255).byte())
    cells: list[Cell] = [(aligned, "aligned face"), (result, "rendered")]
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
