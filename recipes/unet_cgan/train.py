"""Train `unet_cgan` from pairs and from single real faces.

    python -m recipes.pairs.make_pairs LONDON.parquet LFW.parquet --identity dlib \\
        --classifier CLASSIFIER \\
        --limit 2200 --variants 1 --size 128 --out PAIRS.parquet
    python -m recipes.unet_cgan.train PAIRS.parquet FER2013.parquet LFW.parquet@detect \\
        --photographs LONDON.parquet --identity dlib --classifier CLASSIFIER --half 0 \\
        --config recipes/unet_cgan/cpu.yaml --out expraug/weights/unet_cgan

PAIRS is what `recipes.pairs.make_pairs` wrote; the sets behind it are single real faces, as
`recipes.fer_classifier.train` takes them, of the half whose faces CLASSIFIER knows (`--half`): the
classifier of the evaluation knows the other. `--photographs` holds people photographed neutral and
happy; training people are used.

`--minutes 10` stops after so long, and the same command goes on. Losses, and on faces held out of
training the agreement with CLASSIFIER, the cosine to the source and the L1 to the target, are
appended to `log.csv` in `--work`, with a contact sheet beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer

from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from recipes.pairs.training import CATEGORIES, Sources, Steps, train_on_pairs
from recipes.training.options import load_settings
from recipes.unet_cgan.trainer import Options, Trainer


@dataclass(frozen=True)
class Setting(Steps):
    """What the YAML file says.

    Args:
        size, width: of the net, as `UNetCGANSynthesizer` takes them.
        options: of the trainer.
    """

    width: int = 32
    options: Options = field(default_factory=Options)


def main(
    pairs: Annotated[Path, typer.Argument(help="What recipes.pairs.make_pairs wrote.")],
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/unet_cgan.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    classifier: Annotated[
        Path, typer.Option(help="Folder of recipes.fer_classifier.train, not the embedded one.")
    ],
    real_pairs: Annotated[Path | None, typer.Option("--photographs")] = None,
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    half: Annotated[int | None, typer.Option(min=0, max=1)] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.triplet=0; several.")
    ] = None,
    work: Path = Path("work/unet_cgan"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting, on = load_settings(Setting, config, option or []), torch.device(device)
    torch.manual_seed(setting.seed)
    names = [str(c) for c in CATEGORIES]
    model, learning = (UNetCGANSynthesizer(names, setting.size, setting.width) for _ in range(2))
    train_on_pairs(
        Sources(pairs, sets, half, real_pairs, classifier, identity, work),
        setting,
        model,
        lambda loss_networks: Trainer(
            learning.generator,
            len(names),
            setting.options,
            setting.steps,
            loss_networks,
            on,
        ),
        lambda average: model.generator.load_state_dict(average.state_dict()),
        out,
        minutes,
        on,
    )


if __name__ == "__main__":
    typer.run(main)
