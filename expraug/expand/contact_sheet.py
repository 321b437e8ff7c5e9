"""A contact sheet: some faces of a set in rows, with what is made of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from expraug.datasets.source import FaceSource
from expraug.errors import warn
from expraug.expand.decoding import decode
from expraug.expand.plan import Job, Plan
from expraug.expressions import Expression
from expraug.faces.align import align_image
from expraug.faces.detect import DetectedFace
from expraug.pipeline import ExpressionAugmenter

CELL, GAP, CAPTION = 160, 10, 26
_INK, _LINE, _PAPER = (40, 40, 40), (205, 205, 205), (255, 255, 255)


Crops = dict[Expression | None, np.ndarray]
"""What a row shows: the source under None, and by target what is made of it."""


@dataclass(frozen=True)
class Shown:
    """A row: the position of its source in the set, a caption, and what it shows in each frame."""

    index: int
    caption: str
    frames: list[Crops]


def contact_sheet(
    source: FaceSource,
    plan: Plan,
    augmenter: ExpressionAugmenter,
    faces_shown: int,
    *,
    max_pixels: int,
    tries: int | None = None,
) -> tuple[Image.Image | None, int]:
    """Draw faces that are spread evenly over a set, and what is made of them.

    Args:
        source: the set.
        plan: what is made; of several intensities and variants the last is shown.
        augmenter: makes it.
        faces_shown: rows at most.
        max_pixels: larger sources are left out.
        tries: how many sources are looked at, those that fail left out; None: as many as it takes,
            and failures are raised.

    Returns:
        The picture, None where no face was found, and the number of its rows.
    """
    rows = list(
        shown_faces(
            source, plan, augmenter, faces_shown, _crops, max_pixels=max_pixels, tries=tries
        )
    )
    rows.sort(key=lambda row: row.index)
    return (draw_sheet(rows) if rows else None), len(rows)


Show = Callable[[ExpressionAugmenter, np.ndarray, DetectedFace, Job], list[Crops]]
"""Makes of an image, where its face is, and its job, what each frame shows."""


def shown_faces(
    source: FaceSource,
    plan: Plan,
    augmenter: ExpressionAugmenter,
    faces_shown: int,
    show: Show,
    *,
    max_pixels: int,
    tries: int | None = None,
) -> Iterator[Shown]:
    """Yield the rows of a sheet, the faces spread evenly over the set; see `contact_sheet`.

    Where `tries` is None, a warning says how many images hold several faces.
    """
    found, several = 0, 0
    for count, index in enumerate(spread(len(source))):
        if found == faces_shown or count == tries:
            break
        job = plan.job(source[index], index)
        image = decode(job, max_pixels).image if job.requests else None
        if image is None:
            continue
        try:
            (face,) = augmenter.detect([image])
            if face is None:
                continue
            frames = show(augmenter, image, face, job)
        except Exception:  # as in an expansion, one face that fails stops nothing
            if tries is None:
                raise
            continue
        found += 1
        several += face.faces > 1
        yield Shown(index, job.item.class_name, frames)
    if several and tries is None:  # an expansion counts them itself
        warn(f"{several} of {found} images hold several faces: the largest of each is shown")


def spread(count: int) -> Iterator[int]:
    """Yield 0 … count - 1 so that the first few, however many, lie evenly over the range."""
    bits = max(count - 1, 0).bit_length()
    for i in range(1 << bits):
        index = int(f"{i:0{bits}b}"[::-1], 2) if bits else 0
        if index < count:
            yield index


def _crops(
    augmenter: ExpressionAugmenter, image: np.ndarray, face: DetectedFace, job: Job
) -> list[Crops]:
    crops: Crops = {None: crop(image, face.points)}
    asked = tuple({request.target: request for request in job.requests}.values())
    for request, outcome in zip(asked, augmenter([image] * len(asked), asked), strict=True):
        if outcome.target is not None:
            crops[request.target] = crop(outcome.image, face.points)
    return [crops]


def crop(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the canonical frame as (CELL, CELL, 3) uint8."""
    face = align_image(image, points, CELL)
    return face.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def draw_sheet(rows: list[Shown], frame: int = 0) -> Image.Image:
    """Lay the rows out under a line of captions, as they are in one frame."""
    made = {target for row in rows for target in row.frames[frame] if target is not None}
    columns: list[Expression | None] = [None, *sorted(made)]
    step = CELL + GAP
    width = GAP + step * len(columns)
    height = CAPTION + (CELL + CAPTION) * len(rows) + GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)

    def write(text: str, x: int, y: int) -> None:
        while pen.textlength(text, font) > CELL and len(text) > 1:
            text = text.rstrip("…")[:-1] + "…"
        pen.text((x + CELL / 2, y + CAPTION / 2), text, _INK, font, anchor="mm")

    for column, target in enumerate(columns):
        x = GAP + step * column
        write("source" if target is None else str(target), x, 0)
        for number, row in enumerate(rows):
            y = CAPTION + (CELL + CAPTION) * number
            if target in row.frames[frame]:
                sheet.paste(Image.fromarray(row.frames[frame][target]), (x, y))
            else:
                pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), outline=_LINE)
            if target is None:
                write(row.caption, x, y + CELL)
    return sheet
