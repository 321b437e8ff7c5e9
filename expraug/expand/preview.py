"""A contact sheet: what a synthesizer makes of a set's faces, at one glance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from expraug.augmenter import Draw, ExpressionAugmenter
from expraug.errors import NoFaceError
from expraug.expand.expansion import check_device, open_face_set
from expraug.expand.local import decode
from expraug.expand.plan import Plan, SchemeLike
from expraug.expand.writing import write_file
from expraug.expressions import Expression
from expraug.faces.alignment import align_image
from expraug.faces.image import MAX_PIXELS
from expraug.faces.locate import Location, Locator
from expraug.synthesizer import Synthesizer

CELL, GAP, CAPTION = 160, 10, 26
_INK, _LINE, _PAPER = (40, 40, 40), (205, 205, 205), (255, 255, 255)


@dataclass(frozen=True)
class _Shown:
    index: int
    caption: str
    crops: dict[Expression | None, np.ndarray]


def preview(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    synthesizer: str | Synthesizer = "pixel",
    faces_shown: int = 8,
    intensity: float = 1.0,
    scheme: SchemeLike | None = None,
    faces: str | Locator = "detect",
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Write a contact sheet: a row for each face, its source first, then a column for each target.

    The faces are spread evenly over the set and shown as aligned crops of 160 pixels. A target that
    cannot be made of a source leaves its cell empty. No gate judges the faces.

    Args:
        source, synthesizer, scheme, faces, device, max_pixels: as `expand` takes them.
        out: the picture; its suffix says the format.
        faces_shown: rows at most, from 1.
        intensity: in [0.01, 1].

    Returns:
        The number of faces shown.

    Raises:
        NoFaceError: no image of the set shows a face of which anything can be made.
        SourceError, LabelError, MissingWeightsError, MissingDependencyError, DeviceError, OSError:
            as `expand` does.
        ValueError: an argument out of range, or a suffix that is no picture format.
    """
    if faces_shown < 1:
        raise ValueError(f"faces_shown must be at least 1, not {faces_shown}")
    path = Path(out)
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{path}: no picture format is called {path.suffix!r}; use .png")
    face_set = open_face_set(source)
    check_device(device)
    augmenter = ExpressionAugmenter(synthesizer, faces=faces, device=device)
    plan = Plan.create(augmenter, face_set.classes, scheme=scheme, intensity=intensity)
    rows: list[_Shown] = []
    for index in spread(len(face_set)):
        job = plan.job(face_set[index])
        image = decode(job, max_pixels).image if job.draws else None
        if image is None:
            continue
        (location,) = augmenter.locate([image])
        if location is not None:
            crops = _crops(augmenter, image, location, job.draws)
            rows.append(_Shown(index, job.item.class_name, crops))
        if len(rows) == faces_shown:
            break
    if not rows:
        raise NoFaceError(
            f"no image of {source} shows a face that {augmenter.synthesizer.name!r} can make "
            f"anything of; for images that are face crops already, use faces='crop' (--faces crop)"
        )
    sheet = draw_sheet(sorted(rows, key=lambda row: row.index))
    picture = BytesIO()
    sheet.save(picture, Image.registered_extensions()[path.suffix.lower()])
    write_file(path, picture.getvalue())
    return len(rows)


def spread(count: int) -> Iterator[int]:
    """Yield 0 … count - 1 so that the first few, however many, lie evenly over the range."""
    bits = max(count - 1, 0).bit_length()
    for i in range(1 << bits):
        index = int(f"{i:0{bits}b}"[::-1], 2) if bits else 0
        if index < count:
            yield index


def _crops(
    augmenter: ExpressionAugmenter, image: np.ndarray, location: Location, draws: tuple[Draw, ...]
) -> dict[Expression | None, np.ndarray]:
    crops: dict[Expression | None, np.ndarray] = {None: _crop(image, location.points)}
    for draw, outcome in zip(draws, augmenter([image] * len(draws), draws), strict=True):
        if outcome.target is not None:
            crops[draw.target] = _crop(outcome.image, location.points)
    return crops


def _crop(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the canonical frame as (CELL, CELL, 3) uint8."""
    face = align_image(image, points, CELL)
    return face.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def draw_sheet(rows: list[_Shown]) -> Image.Image:
    """Lay the rows out under a line of captions."""
    made = {target for row in rows for target in row.crops if target is not None}
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
            if target in row.crops:
                sheet.paste(Image.fromarray(row.crops[target]), (x, y))
            else:
                pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), outline=_LINE)
            if target is None:
                write(row.caption, x, y + CELL)
    return sheet
