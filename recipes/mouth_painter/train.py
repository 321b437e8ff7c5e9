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

from pathlib import Path
from typing import Annotated

import torch
import typer

from recipes.mouth_painter.colour import fit_colour
from recipes.mouth_painter.data import open_mouths
from recipes.mouth_painter.learn import Setting, learn, taught
from recipes.training.loop import RunOptions
from recipes.training.options import load_settings


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
    setting = load_settings(Setting, config, option or [])
    mouths, coloured = open_mouths(data, faces, work / "mouths")
    learn(
        setting,
        mouths,
        RunOptions(out, work, torch.device(device), minutes),
        colour=fit_colour(taught(coloured)),
    )


if __name__ == "__main__":
    typer.run(main)
