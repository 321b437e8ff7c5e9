"""Train `decoupled` from pairs and from single real faces.

    python -m recipes.decoupled.train PAIRS.parquet FER2013.parquet LFW.parquet@detect \\
        --generator GENERATOR --photographs LONDON.parquet --identity dlib \\
        --classifier CLASSIFIER \\
        --half 0 --config recipes/decoupled/cpu.yaml --out expraug/weights/decoupled

GENERATOR is what `recipes.latent.train_generator` wrote; all else is as `recipes.unet_cgan.train`
has it, the log and the contact sheets in `--work` too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from expraug.synthesizers.decoupled import DecoupledSynthesizer
from recipes.decoupled.trainer import Options, Teaching, Trainer, teach_latents
from recipes.latent.train_generator import read_nets
from recipes.pairs.data import Draw
from recipes.pairs.training import CATEGORIES, Sources, Steps, train_on_pairs
from recipes.training.options import load_settings


@dataclass(frozen=True)
class Setting(Steps):
    """What the YAML file says.

    Args:
        size, resnet_width, identity, expression: of the net, as `DecoupledSynthesizer` takes them.
        teaching: steps, before all others, in which the net learns to imitate the inversion by the
            generator's own encoder.
        options: of the trainer.
    """

    size: int = 64
    resnet_width: int = 24
    identity: int = 256
    expression: int = 16
    teaching: int = 0
    options: Options = field(default_factory=Options)


def main(
    pairs: Annotated[Path, typer.Argument(help="What recipes.pairs.make_pairs wrote.")],
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/decoupled.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    generator: Annotated[Path, typer.Option(help="Folder of recipes.latent.train_generator.")],
    classifier: Annotated[
        Path, typer.Option(help="Folder of recipes.fer_classifier.train, not the embedded one.")
    ],
    real_pairs: Annotated[Path | None, typer.Option("--photographs")] = None,
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    half: Annotated[int | None, typer.Option(min=0, max=1)] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.feedback=0; several.")
    ] = None,
    work: Path = Path("work/decoupled"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting, on = load_settings(Setting, config, option or []), torch.device(device)
    torch.manual_seed(setting.seed)
    drawing, inverting = read_nets(generator)
    names = [str(c) for c in CATEGORIES]
    arguments: dict[str, Any] = {
        "expressions": names,
        "image_size": setting.size,
        "channels": drawing.channels,
        "width": drawing.width,
        "resnet_width": setting.resnet_width,
        "identity": setting.identity,
        "expression": setting.expression,
        "painted": drawing.painted,
        "shape_channels": inverting.channels,
    }
    learning = DecoupledSynthesizer(**arguments).net.to(on)
    model = DecoupledSynthesizer(**arguments)
    drawn = drawing.state_dict()
    del drawn["factor"]
    learning.generator.load_state_dict(drawn)
    if learning.shapes is not None:
        learning.shapes.load_state_dict(inverting.state_dict())

    def prepare(draw: Draw) -> None:
        teaching = Teaching(setting.teaching, decoupling=setting.options.decoupling)
        teach_latents(learning, inverting.to(on), draw, teaching, on, print_line)

    train_on_pairs(
        Sources(pairs, sets, half, real_pairs, classifier, identity, work),
        setting,
        model,
        lambda loss_networks: Trainer(
            learning,
            len(names),
            setting.options,
            setting.steps,
            loss_networks,
            on,
        ),
        lambda average: model.net.load_state_dict(average.get_submodule("net").state_dict()),
        out,
        minutes,
        on,
        prepare if setting.teaching else None,
    )


def print_line(figures: dict[str, float]) -> None:
    """Print figures at once, rounded."""
    print({name: round(value, 4) for name, value in figures.items()}, flush=True)


if __name__ == "__main__":
    typer.run(main)
