"""Train `unet_cgan` from pairs and from single real faces.

    python -m recipes.pairs.make_pairs DATA --out PAIRS
    python -m recipes.fer_classifier.train DATA --half 0 --out NET0
    python -m recipes.fer_classifier.train DATA --half 1 --out NET1
    python -m recipes.unet_cgan.train DATA --pairs PAIRS --classifier NET0 --classifier NET1 \\
        --config recipes/unet_cgan/cpu.yaml --out expraug/weights/unet_cgan
    python -m recipes.unet_cgan.choose_codes expraug/weights/unet_cgan --pairs PAIRS \\
        --classifier NET0 --classifier NET1

DATA is the folder of the sets, as `recipes.real_faces` takes it, and so is `--real-faces`. The nets
are asked what the faces that are made show; none of them is the embedded classifier, which
evaluates.

`--minutes 10` stops after so long, and the same command goes on; with `--finish`, the schedule ends
with the minutes, and the run with it. Losses, and on faces held out of
training the probability of each target and the distance to the teacher's flow, are appended to
`log.csv` in `--work`, with a contact sheet beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.identity import create_identity_encoder
from recipes.pairs.made import Pairs
from recipes.training.loop import RunOptions
from recipes.training.options import load_settings
from recipes.unet_cgan.data import Singles
from recipes.unet_cgan.learn import Setting, learn


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    pairs: Annotated[Path, typer.Option(help="What recipes.pairs.make_pairs wrote.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/unet_cgan.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    classifier: Annotated[
        list[Path], typer.Option(help="Folders of recipes.fer_classifier.train; several.")
    ],
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.triplet=0; several.")
    ] = None,
    work: Path = Path("work/unet_cgan"),
    real_faces: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to start from.")] = None,
    finish: Annotated[
        bool, typer.Option(help="What fits into the minutes is the whole run.")
    ] = False,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting = load_settings(Setting, config, option or [])
    work.mkdir(parents=True, exist_ok=True)
    learn(
        setting,
        Pairs.load(pairs),
        Singles.read(data, real_faces, setting.singles, setting.seed),
        [load_fer_classifier(folder) for folder in classifier],
        create_identity_encoder(identity),
        RunOptions(out, work, torch.device(device), minutes, finish),
        start,
    )


if __name__ == "__main__":
    typer.run(main)
