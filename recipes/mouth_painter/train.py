"""Train the mouth painter on real open mouths of training people.

    python -m recipes.real_faces DATA --work work/real_faces
    python -m recipes.mouth_painter.train DATA --config recipes/mouth_painter/cpu.yaml \\
        --out expraug/weights/mouth_painter

DATA is laid out as `recipes.real_faces` takes it. `--minutes 10` stops after so long, and the same
command goes on. Losses, and on people held out of training how far the paint is from the mouth that
was there and how sharp it is beside it, are appended to `log.csv` in `--work`, with a sheet beside
it: each mouth as photographed, its code, painted with its own code and with another's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torchvision.utils import save_image

from expraug.networks.mouth_painter import MouthPainter, lay
from recipes.mouth_painter.colour import fit_colour
from recipes.mouth_painter.data import SPLITS, Mouths, open_mouths
from recipes.mouth_painter.drawing import EVENNESS, Batch, Draw, codes_of, nearest
from recipes.mouth_painter.trainer import Options, Trainer, paint
from recipes.real_faces import LFW, LONDON
from recipes.training.loop import run
from recipes.training.options import load_settings

SHOWN = 48
"""Mouths on a sheet."""


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        width: of the painter, as `MouthPainter` takes it.
        steps: of training.
        batch: mouths of a step.
        others: share of them that get another's code.
        report_every: steps between two lines of the log, two sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    width: int = 24
    steps: int = 4000
    batch: int = 24
    others: float = 0.4
    report_every: int = 200
    seed: int = 0
    options: Options = field(default_factory=Options)


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/mouth_painter.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    faces: Annotated[Path, typer.Option(help="Work folder of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.real=0; several.")
    ] = None,
    work: Path = Path("work/mouth_painter"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting, on = load_settings(Setting, config, option or []), torch.device(device)
    torch.manual_seed(setting.seed)
    mouths, coloured = open_mouths(data, faces, work / "mouths")
    draw = Draw(taught(mouths).to(on), setting.batch, setting.others)
    held = held_out(mouths).to(on)
    painter = MouthPainter(setting.width)
    painter.colour.copy_(fit_colour(taught(coloured)))
    trainer = Trainer(painter, setting.options, setting.steps, on)
    kept = MouthPainter(setting.width).to(on).eval()

    def report(done: int) -> dict[str, float]:
        kept.load_state_dict(trainer.average.state_dict())
        kept.save_pretrained(out)
        return watch(kept, held, work / f"step-{done:06d}.png")

    run(
        trainer,
        lambda: trainer.step(draw()),
        report,
        work,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
        minutes=minutes,
    )


def taught(mouths: Mouths) -> Mouths:
    """Return the mouths of training people."""
    return mouths.take(mouths.split == SPLITS.index("train"))


def held_out(mouths: Mouths) -> Mouths:
    """Return mouths to watch the training by: of London and of LFW's validation people, from
    hardly open to wide open."""
    lfw = (mouths.origin == LFW) & (mouths.split == SPLITS.index("validation"))
    london = (mouths.origin == LONDON) & (mouths.split != SPLITS.index("train"))
    rows = lfw.nonzero()[:, 0]
    rows = rows[mouths.gap[rows].argsort()]
    rest = SHOWN - int(london.sum())
    if len(rows) > rest:  # evenly over openings, not over faces
        even = (mouths.gap[rows].diff() ** EVENNESS).cumsum(0)
        rows = rows[torch.searchsorted(even, torch.linspace(0, float(even[-1]), rest)).unique()]
    return mouths.take(torch.cat([london.nonzero()[:, 0], rows]))


@torch.inference_mode()
def watch(painter: MouthPainter, held: Mouths, sheet: Path) -> dict[str, float]:
    """Paint held-out mouths, write the sheet, return the figures."""
    grey = held.pixels.float() / 255
    codes = codes_of(held)
    like_it = nearest(held, held, 4)[:, -1]
    made: list[Tensor] = []
    figures = {}
    for name, code in (("own", codes), ("other", codes[like_it])):
        own = torch.ones(len(held), dtype=torch.bool, device=grey.device)
        batch = Batch(grey, held.window(), code, own, held.origin)
        painted = paint(painter, batch)
        count = painted.inside.sum()
        if name == "own":
            error = (painted.made - painted.real).abs()
            figures["l1 to real"] = float((error * painted.inside).sum() / count)
        slopes = [
            (windows.diff(dim=3).abs() * painted.inside[..., 1:]).sum()
            for windows in (painted.made, painted.real)
        ]
        figures[f"sharpness, {name}"] = float(slopes[0] / slopes[1])
        made.append((painted.made + 1) * painted.level)
    code_shown = (lay(codes, painted.outline) + 1) * painted.level * painted.inside
    columns = torch.stack([grey, code_shown, *made], 1).flatten(0, 1).clamp(0, 1)
    columns = torch.nn.functional.interpolate(columns, scale_factor=2, mode="bilinear")
    save_image(columns, sheet, nrow=12, padding=1)
    return figures


if __name__ == "__main__":
    typer.run(main)
