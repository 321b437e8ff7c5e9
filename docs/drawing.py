"""What the pictures of the reference are drawn with: faces in grids, and tables of chances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import expraug
from expraug import Expression, ExpressionAugmenter, SynthesisRequest
from expraug.faces.align import align_image

FACES = Path(__file__).parents[1] / "examples" / "faces"
SIDE = 144  # of a face, in pixels
CAPTION = 20  # of a line under it
INK = (30, 30, 30)
EIGHT = [e for e in Expression if e is not Expression.NEUTRAL]

Cell = tuple[Any, str]
"""A picture, as array or PIL image, and the lines under it."""


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


def chances(policy: Any) -> Image.Image:
    """Return how likely each target (column) is for each source (row), as squares."""
    everything, cell, left, top = list(Expression), 52, 84, 24
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
            if chance >= 0.005:
                ink = "white" if chance > 0.3 else INK
                where = (x + cell / 2, y + height / 2)
                pen.text(where, f"{chance:.2f}", ink, font, anchor="mm")
    return sheet


def scored(gate: Any, key: str) -> Image.Image:
    """Return what a gate says of some faces, one of them another person's."""
    source, other = face(8), face(9)
    targets = [Expression.HAPPY, Expression.SURPRISE, Expression.CONTEMPT]
    faces = [np.asarray(expraug.augment(source, "neutral", t)) for t in targets]
    shown = [*faces, source, other]
    wanted = [*targets, Expression.HAPPY, Expression.NEUTRAL]

    def stack(images: Sequence[np.ndarray]) -> torch.Tensor:
        found = expraug.detect_faces(list(images), alignment="crop")
        aligned = [align_image(i, f[0].points, 96) for i, f in zip(images, found, strict=True)]
        return torch.stack(aligned) / 255

    scores = gate.score(stack([source] * len(shown)), stack(shown),
                        torch.tensor([int(t) for t in wanted]))  # fmt: skip
    cells: list[Cell] = [(source, "source\n")]
    for row, (picture, target) in enumerate(zip(shown, wanted, strict=True)):
        own = {name: float(values[row]) for name, values in scores.items()}
        reason = gate.rejection(own) or "passes"
        figure = ", ".join(f"{own[k]:.2f}" for k in key.split())
        cells.append((picture, f"as {target}: {figure}\n{reason}"))
    return grid([cells])


def figure_as_image(figure: Any) -> Image.Image:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    return drawn
