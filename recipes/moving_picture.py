"""Draw the moving picture at the head of the README: sample faces that change their expression.

    python -m recipes.moving_picture --out examples/moving.webp

Each person goes through several expressions, out of rest and back to it, at the speed at which
clips move. All of it comes from `ExpressionAugmenter.clip`, with its landmark check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from expraug import Expression, ExpressionAugmenter
from expraug.errors import RejectedError

CAPTION = 24  # pixels under each face
HELD = 7  # frames at full expression
RESTING = 3  # frames of the photograph as it is
FRAMES_PER_SECOND = 12

Frame = tuple[Image.Image, str]
"""A face, and what it shows."""


def course(
    augmenter: ExpressionAugmenter, photograph: np.ndarray, targets: list[str], frames: int
) -> list[Frame]:
    """Return one person's way through the targets, from rest to rest.

    Args:
        photograph: (H, W, 3) uint8, neutral.
        frames: of each rise.
    """
    shown: list[Frame] = []
    for target in targets:
        rise = _first_good(augmenter, photograph, target, frames)
        resting = [(rise[0], "neutral")] * RESTING
        shown += [*resting, *((face, target) for face in rise), *([(rise[-1], target)] * HELD)]
        shown += [(face, target) for face in rise[-2:0:-2]]  # faces relax faster than they rise
    return shown


def _first_good(
    augmenter: ExpressionAugmenter, photograph: np.ndarray, target: str, frames: int
) -> list[Image.Image]:
    for variant in range(augmenter.variants):
        try:
            clip = augmenter.clip(photograph, "neutral", target, frames, variant=variant)
        except RejectedError:
            continue
        return [Image.fromarray(frame) for frame in clip.transpose(0, 2, 3, 1)]
    raise SystemExit(f"no variant of {target} passes the checks on this face: take another person")


def drawn(people: list[Frame], side: int) -> Image.Image:
    """Return one frame of the picture: faces beside each other, captions below."""
    picture = Image.new("RGB", (side * len(people), side + CAPTION), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for column, (face, text) in enumerate(people):
        picture.paste(face.resize((side, side), Image.Resampling.LANCZOS), (side * column, 0))
        middle = (side * (column + 0.5), side + CAPTION / 2)
        pen.text(middle, text, "black", font, anchor="mm")
    return picture


def main(
    faces: Annotated[Path, typer.Option(help="Folder of neutral faces.")] = Path(
        "examples/faces/neutral"
    ),
    out: Annotated[Path, typer.Option(help="Animated .webp, .gif or .png.")] = Path(
        "examples/moving.webp"
    ),
    person: Annotated[
        list[int] | None, typer.Option(help="Which faces, by number. Default: the first four.")
    ] = None,
    side: int = 220,
    frames: int = 12,
    quality: int = 85,
    synthesizer: str = "transfer",
) -> None:
    augmenter = ExpressionAugmenter(synthesizer)
    files = sorted(faces.iterdir())
    made = [str(e) for e in augmenter.synthesizer.expressions if e is not Expression.NEUTRAL]
    courses = []
    for place, number in enumerate(person or range(4)):
        photograph = np.asarray(Image.open(files[number]).convert("RGB"))
        # everyone starts elsewhere, so that the picture shows several expressions at any time
        turn = 2 * place % len(made)
        targets = (made[turn:] + made[:turn])[:4]
        courses.append(course(augmenter, photograph, targets, frames))
    pictures = [drawn(list(people), side) for people in zip(*courses, strict=True)]
    options: dict[str, Any] = {"duration": 1000 // FRAMES_PER_SECOND, "loop": 0}
    if out.suffix == ".webp":
        options |= {"quality": quality, "method": 6}
    pictures[0].save(out, save_all=True, append_images=pictures[1:], **options)
    typer.echo(f"{out}: {len(pictures)} frames, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
