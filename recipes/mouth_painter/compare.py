"""Compare mouths that the painter paints with an exemplar's, and with a drawn one.

    python -m recipes.mouth_painter.compare DATA --out SHEET.png

On LFW's open mouths of people whom nobody trained on, the inside is replaced: painted with the
code of the very mouth; painted with another's, of a training mouth that is open alike; that other
mouth's inside itself, laid between the lips and lit as the face is; and a drawn one. A net learns
to tell each from photographs by the region of the mouth, as `expraug evaluate` does
(`expraug.evaluate.detectability`): 0.5 cannot be told. The sheet shows London's held-out people,
their open mouths, and below their shut ones drawn apart, of which their own code says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from torchvision.utils import save_image

from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.detectability import Mixture, area, cross_fitted
from expraug.faces.composite import luminance
from expraug.faces.mouth import MouthOutline, MouthWindow, lips_of
from expraug.networks.mouth_painter import (
    MouthPainter,
    interior_of,
    lay,
    light_level,
    load_mouth_painter,
    matte_of,
    read_interior,
    surroundings,
)
from recipes.mouth_painter.data import (
    OPEN,
    SPLITS,
    Mouths,
    london_mouths,
    open_mouths,
    opened,
)
from recipes.mouth_painter.drawing import nearest
from recipes.real_faces import FILES, LFW, SIZE, Faces, extract

WAYS = ("own code", "another's code", "another's inside", "drawn")
DETAIL = (22, 44)
"""Rows and columns of an exemplar's inside that is laid between the lips."""
ALIKE = 8
"""Mouths of the training people that lend their inside, nearest in shape."""
FEWEST = 8  # people on the sheet whose mouths are shut


class Exemplars:
    """Open mouths of training people, that lend code and inside to like ones.

    Args:
        mouths: grey.
    """

    def __init__(self, mouths: Mouths) -> None:
        self.mouths = mouths
        self.generator = torch.Generator().manual_seed(0)

    def lend(self, to: Mouths) -> tuple[Tensor, Tensor]:
        """Return a code, (N, 6, 12), and an inside, (N, 22, 44), for each of N mouths."""
        near = nearest(to, self.mouths, ALIKE)
        drawn = torch.randint(ALIKE, (len(to), 1), generator=self.generator)
        lent = self.mouths.take(near.gather(1, drawn)[:, 0])
        grey, window = lent.pixels.float() / 255, lent.window()
        return interior_of(grey, window), interior_of(grey, window, *DETAIL)


def drawn_mouth(outline: MouthOutline, level: Tensor) -> Tensor:
    """Return a mouth drawn of constants, (B, 3, 64, 96) in [0, 1]: teeth below the upper lip with
    a little gum, a tongue above the lower one, and a cavity between."""
    colours = {"teeth": (0.92, 0.90, 0.86), "gum": (0.62, 0.34, 0.34)}
    colours |= {"cavity": (0.06, 0.03, 0.03), "tongue": (0.50, 0.20, 0.20)}
    teeth, gum, cavity, tongue = (level.new_tensor(c).view(1, 3, 1, 1) for c in colours.values())
    off = (2 * outline.u - 1).square()
    shown = torch.where(outline.below < 9, teeth, cavity)
    shown = torch.where(outline.below < 1.5, gum, shown)
    on_tongue = (outline.above < 7 - 5 * off) & (outline.below > 11)
    return (torch.where(on_tongue, tongue, shown) * level / 0.5).clamp(0, 1)


def replaced(
    way: str, painter: MouthPainter, cut: Tensor, window: MouthWindow, lent: tuple[Tensor, Tensor]
) -> Tensor:
    """Return (B, 3, 64, 96) windows with the inside of the mouth replaced in one of `WAYS`."""
    outline = window.outline()
    code, inside = lent
    if way == "another's inside":
        paint = painter.tint(lay(inside, outline), cut, outline)
    elif way == "drawn":
        paint = drawn_mouth(outline, light_level(luminance(cut), surroundings(outline)))
    else:
        own = interior_of(luminance(cut), window)
        paint = painter.paint_cut(cut, outline, own if way == "own code" else code)
    return torch.lerp(cut, paint, matte_of(outline))


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    out: Annotated[Path, typer.Option(help="The sheet.")],
    weights: Annotated[Path | None, typer.Option(help="Of the painter; else embedded.")] = None,
    faces: Annotated[Path, typer.Option(help="Work folder of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    work: Path = Path("work/mouth_painter"),
    most: Annotated[int, typer.Option(help="Faces of LFW that are told apart.")] = 900,
) -> None:
    painter = load_mouth_painter(weights)
    mouths, _ = open_mouths(data, faces, work / "mouths")
    taught = mouths.take(mouths.split == SPLITS.index("train"))
    exemplars = Exemplars(taught)
    with torch.inference_mode():
        sheet(painter, exemplars, data, work, out)
    held = extract(LFW, data / FILES[LFW][0], faces)
    report(painter, exemplars, held_out(held, most))


def held_out(faces: Faces, most: int) -> Faces:
    """Return open mouths of people whom nobody trained on, at most so many."""
    gap = np.linalg.norm(faces.mesh[:, 14, :2] - faces.mesh[:, 13, :2], axis=1)
    rows = np.flatnonzero((faces.split != "train") & (gap >= OPEN))
    return faces.take(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)])


def report(painter: MouthPainter, exemplars: Exemplars, held: Faces) -> None:
    """Print how well each way is told from photographs."""
    people = held.person.tolist()
    bootstrap = Bootstrap(people)
    real = held.tensor()
    landmarks = torch.from_numpy(held.mesh[..., :2]).float()
    for way in WAYS:
        with torch.inference_mode():
            made = torch.cat(
                [
                    _face(way, painter, exemplars, face, points)
                    for face, points in zip(real.split(64), landmarks.split(64), strict=True)
                ]
            )
        mixture = Mixture(
            torch.cat([real, made]).mul(255).round().to(torch.uint8),
            np.arange(2 * len(held)) >= len(held),
            np.zeros(2 * len(held), int),
            np.tile(held.expression, 2),
            people * 2,
        )
        found = area(mixture, cross_fitted(mixture, "mouth", 200, 2), bootstrap)
        print(f"detectability, mouth, {way}: {found} of {len(held)}", flush=True)


def _face(
    way: str, painter: MouthPainter, exemplars: Exemplars, faces: Tensor, landmarks: Tensor
) -> Tensor:
    """Return faces with the inside of the mouth replaced, through the frame that users have."""
    window = MouthWindow.around(lips_of(landmarks))
    like = _as_mouths(window)
    code, inside = exemplars.lend(like)
    if way == "own code":
        code = read_interior(faces, lips_of(landmarks))
    if way in ("own code", "another's code"):
        paint, matte = painter(faces, lips_of(landmarks), code)
        return torch.lerp(faces, paint, matte)
    filled = replaced(way, painter, window.cut(faces), window, (code, inside))
    matte = window.put_back(matte_of(window.outline()), SIZE)
    return torch.where(matte > 0, window.put_back(filled, SIZE), faces)


def _as_mouths(window: MouthWindow) -> Mouths:
    upper, lower = window.upper, window.lower
    gap, width = (lower[:, 5] - upper[:, 5]).norm(dim=1), (upper[:, -1] - upper[:, 0]).norm(dim=1)
    nothing = torch.zeros(len(gap), dtype=torch.long)
    return Mouths(torch.empty(len(gap), 0), upper, lower, gap, width, nothing, nothing, nothing)


def sheet(painter: MouthPainter, exemplars: Exemplars, data: Path, work: Path, file: Path) -> None:
    """Write the sheet: the window as it was, and the ways side by side."""
    is_open, shut = (london_mouths(data, work / "mouths", which) for which in ("open", "shut"))
    is_open = is_open.take(is_open.split != SPLITS.index("train"))
    shut = shut.take(shut.split != SPLITS.index("train"))
    shut = opened(shut.take(torch.linspace(0, len(shut) - 1, 2 * FEWEST).long()), exemplars.mouths)
    rows = []
    for mouths in (is_open, shut):
        cut, window = mouths.pixels.float() / 255, mouths.window()
        lent = exemplars.lend(mouths)
        rows.append(torch.stack([cut, *(replaced(w, painter, cut, window, lent) for w in WAYS)], 1))
    tiles = F.interpolate(torch.cat(rows).flatten(0, 1), scale_factor=3, mode="bicubic")
    save_image(tiles.clamp(0, 1), file, nrow=2 * (1 + len(WAYS)), padding=2)


if __name__ == "__main__":
    typer.run(main)
