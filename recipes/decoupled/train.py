"""Train `decoupled` from pairs and from single real faces.

    python -m recipes.decoupled.train DATA --pairs PAIRS --generator GENERATOR --identity dlib \\
        --classifier CLASSIFIER --half 0 --config recipes/decoupled/cpu.yaml \\
        --out expraug/weights/decoupled

DATA and `--work` are as `recipes.real_faces` takes them: of training people, and of one half if
wished. PAIRS is what `recipes.pairs.make_pairs` wrote, GENERATOR what
`recipes.latent.train_generator` and then `recipes.latent.fit_moves` did, CLASSIFIER what
`recipes.fer_classifier.train` did of the same half. `--start WEIGHTS` goes on from weights of this
kind, on other pairs, with the moves of landmarks of GENERATOR.

The log, a contact sheet of people who are held out and a state to go on from are in `--scratch`.
`recipes.strength.calibrate` then chooses how far intensity 1 goes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn
from torchvision.utils import save_image

from expraug.expressions import Expression
from expraug.latent.generator import StyleGenerator
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import create_identity_encoder
from expraug.synthesizers.decoupled import DecoupledSynthesizer
from recipes.decoupled.data import Draw, RealFaces, embed, real_faces, watched
from recipes.decoupled.trainer import Options, Teaching, Trainer, teach_latents
from recipes.latent.train_generator import read_nets
from recipes.pairs.moves import Moves, moves_of_pairs, one_sided, part_of
from recipes.pairs.watching import expression_net
from recipes.real_faces import training_faces
from recipes.training.loop import RunOptions, run
from recipes.training.loss_networks import LossNetworks
from recipes.training.options import load_settings

CATEGORIES = tuple(Expression)
SHOWN = 8
"""Held-out people of a sheet."""


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        resnet_width, identity, expression: of the net, as `DecoupledSynthesizer` takes them.
        teaching: before all else, in latents alone.
        steps: of training on drawn faces.
        batch: pairs of a step, and as many single faces.
        report_every: steps between two lines of the log, two contact sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    resnet_width: int = 24
    identity: int = 256
    expression: int = 16
    teaching: Teaching = field(default_factory=Teaching)
    steps: int = 4000
    batch: int = 16
    report_every: int = 200
    seed: int = 0
    options: Options = field(default_factory=Options)


def begin(setting: Setting, generator: StyleGenerator, start: Path | None) -> DecoupledSynthesizer:
    """Return a synthesizer around a generator, or one that goes on from weights of its kind."""
    if start is not None:
        model = DecoupledSynthesizer.from_pretrained(start)
        assert isinstance(model, DecoupledSynthesizer)
        own, given = model.net.generator.pictures, generator.pictures
        if own is None or given is None or not torch.allclose(own.flow, given.flow, atol=1e-2):
            raise SystemExit(f"{start} does not draw with the pictures of --generator")
        own.marks.copy_(given.marks)
        return model
    model = DecoupledSynthesizer(
        [str(c) for c in CATEGORIES],
        generator.image_size,
        generator.channels,
        generator.width,
        setting.resnet_width,
        setting.identity,
        setting.expression,
        painted=generator.painted,
    )
    drawn = generator.state_dict()
    del drawn["factor"]
    model.net.generator.load_state_dict(drawn)
    return model


@torch.inference_mode()
def watch(model: DecoupledSynthesizer, held: Moves, classifier: FERNet, sheet: Path) -> float:
    """Give held-out people every expression, write the sheet, and return the share in which the
    classifier sees it."""
    of = held.of.unique()[:SHOWN]
    grey = held.source[of].float() / 255
    faces, rows, right = grey.expand(-1, 3, -1, -1), [grey], []
    for expression in model.expressions:
        asked = torch.full((len(faces),), int(expression))
        made = model(faces, asked, torch.ones(len(faces)), landmarks=held.landmarks[of])
        rows.append(made[:, :1])
        column = classifier.expressions.index(expression)
        right.append((classifier.probabilities(made).argmax(1) == column).float().mean())
    save_image(torch.stack(rows, 1).flatten(0, 1), sheet, nrow=len(rows), padding=1)
    return float(torch.stack(right).mean())


def train(
    model: DecoupledSynthesizer,
    moves: Moves,
    real: RealFaces,
    setting: Setting,
    classifier: FERNet,
    identity: str,
    run_options: RunOptions,
) -> None:
    """Teach a synthesizer, then train it on drawn faces, and save it."""
    device = run_options.device
    learning = deepcopy(model.net).requires_grad_(True).to(device)
    held = watched(moves)
    trained, kept = (part_of(moves, rows.nonzero()[:, 0]) for rows in (~held, held))
    print(f"{len(trained)} pairs, {len(kept)} held out, {len(real)} real faces", flush=True)
    model.interiors.copy_(moves.interior[[int(e) for e in model.expressions]])
    model.strength.fill_(1)
    torch.manual_seed(setting.seed)

    def save(net: nn.Module) -> None:
        model.net.load_state_dict(net.state_dict())
        model.eval().save_pretrained(run_options.out)

    if setting.teaching.steps and not (run_options.work / "state.pt").is_file():
        draw = Draw(trained, real, None, setting.batch)
        teach_latents(learning, draw, setting.teaching, device, print_line)
        save(learning)
    if not setting.steps:
        return
    encoder = create_identity_encoder(identity)
    draw = Draw(trained, real, embed(moves.source, encoder), setting.batch)
    asked = LossNetworks(
        encoder.to(device), expression_net(deepcopy(classifier).to(device), CATEGORIES)
    )
    trainer = Trainer(learning, len(CATEGORIES), setting.options, setting.steps, asked, device)

    def report(done: int) -> dict[str, float]:
        save(trainer.average.get_submodule("net"))
        return {"agreement": watch(model, kept, classifier, run_options.sheet(done))}

    run(
        trainer,
        lambda: trainer.step(draw().to(device)),
        report,
        run_options,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
    )


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    pairs: Annotated[Path, typer.Option(help="What recipes.pairs.make_pairs wrote.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/decoupled.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    generator: Annotated[Path, typer.Option(help="Folder of recipes.latent.train_generator.")],
    classifier: Annotated[
        Path, typer.Option(help="Folder of recipes.fer_classifier.train, not the embedded one.")
    ],
    start: Annotated[Path | None, typer.Option(help="Weights to go on from.")] = None,
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    half: Annotated[int | None, typer.Option(min=0, max=1, help="Of the training faces.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.feedback=0; several.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    scratch: Annotated[Path, typer.Option(help="Log, sheets, state.")] = Path("work/decoupled"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting = load_settings(Setting, config, option or [])
    scratch.mkdir(parents=True, exist_ok=True)
    drawing, _ = read_nets(generator)
    if not drawing.painted:
        raise SystemExit(f"{generator} is not painted, so landmarks say nothing of its latents")
    model = begin(setting, drawing, start)
    own = model.net.generator
    pictures = own.pictures
    assert pictures is not None
    moves = moves_of_pairs(own, pairs, scratch)
    train(
        model,
        part_of(moves, one_sided(moves, pictures)),
        real_faces(training_faces(data, work, half), own, scratch),
        setting,
        load_fer_classifier(classifier),
        identity,
        RunOptions(out, scratch, torch.device(device), minutes),
    )


def print_line(figures: dict[str, float]) -> None:
    """Print figures at once, rounded."""
    print({name: round(value, 4) for name, value in figures.items()}, flush=True)


if __name__ == "__main__":
    typer.run(main)
