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

`--minutes 10` stops after so long, and the same command goes on. Losses, and on faces held out of
training the probability of each target and the distance to the teacher's flow, are appended to
`log.csv` in `--work`, with a contact sheet beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.identity import create_identity_encoder
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from recipes.pairs.made import Pairs
from recipes.pairs.watching import expression_net
from recipes.training.loop import run
from recipes.training.loss_networks import LossNetworks
from recipes.training.options import load_settings
from recipes.unet_cgan.data import CodedPairs, Draw, Singles
from recipes.unet_cgan.trainer import Options, Trainer
from recipes.unet_cgan.watching import watch

CATEGORIES = tuple(Expression)
Net = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        size, width, variants, code: of the net, as `UNetCGANSynthesizer` takes them.
        steps: of training.
        pairs, unpaired: faces of a batch with and without a pair.
        singles: single faces, at most.
        report_every: steps between two lines of the log, two contact sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    size: int = 128
    width: int = 32
    variants: int = 16
    code: int = 12
    steps: int = 4000
    pairs: int = 16
    unpaired: int = 8
    singles: int = 12000
    report_every: int = 200
    seed: int = 0
    options: Options = field(default_factory=Options)


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
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting, on = load_settings(Setting, config, option or []), torch.device(device)
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(setting.seed)
    names = [str(c) for c in CATEGORIES]
    shape = names, setting.size, setting.width, setting.variants, setting.code
    model, learning = (UNetCGANSynthesizer(*shape) for _ in range(2))
    singles = Singles.read(data, real_faces, setting.singles, setting.seed)
    coded = CodedPairs(Pairs.load(pairs), setting.code)
    draw = Draw(coded, singles, setting.pairs, setting.unpaired)
    print(f"{int(coded.trained.sum())} pairs, {len(singles.category)} single faces", flush=True)
    model.codes.copy_(coded.bank(setting.variants, setting.seed))
    model.to(on).eval().requires_grad_(False)
    nets = [
        expression_net(load_fer_classifier(f).to(on).requires_grad_(False), CATEGORIES)
        for f in classifier
    ]
    encoder = create_identity_encoder(identity).to(on).requires_grad_(False)
    trainer = Trainer(
        learning.generator,
        len(names),
        setting.options,
        setting.steps,
        LossNetworks(encoder, one_of(nets)),
        coded.importance(),
        on,
    )

    def report(done: int) -> dict[str, float]:
        model.generator.load_state_dict(trainer.average.state_dict())
        model.save_pretrained(out)
        return watch(model, coded, nets, work / f"step-{done:06d}.png")

    run(
        trainer,
        lambda: trainer.step(draw().to(on)),
        report,
        work,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
        minutes=minutes,
    )


def one_of(nets: Sequence[Net]) -> Net | None:
    """Return what asks one of the nets, each time another: what pleases all of them pleases none
    of them by chance."""
    if not nets:
        return None
    return lambda faces: nets[int(torch.randint(len(nets), ()))](faces)


if __name__ == "__main__":
    typer.run(main)
