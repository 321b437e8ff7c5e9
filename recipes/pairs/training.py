"""Training on pairs and single real faces, whatever synthesizer it is that learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.identity import create_identity_encoder
from expraug.synthesizer import Synthesizer
from recipes.decoupled import trainer as decoupled
from recipes.pairs.data import (
    Draw,
    Faces,
    cached,
    concatenate,
    describe,
    embed,
    photographs,
    read_pairs,
    single_faces,
)
from recipes.pairs.watching import expression_net, watch
from recipes.training.loop import run
from recipes.training.loss_networks import LossNetworks
from recipes.unet_cgan import trainer as unet_cgan

CATEGORIES = tuple(Expression)
HELD_OUT = 32
"""Groups of pairs that are not trained on, to watch the training by."""


@dataclass(frozen=True)
class Sources:
    """What is trained on and with, as the command line names it.

    Args:
        pairs: what `recipes.pairs.make_pairs` wrote.
        sets, half: single real faces, as `recipes.fer_classifier.train` takes them.
        photographs: people photographed neutral and happy.
        classifier: folder of a net of `recipes.fer_classifier.train`.
        identity: an encoder, "dlib" or "facenet".
        work: folder for what can be made again.
    """

    pairs: Path
    sets: list[str]
    half: int | None
    photographs: Path | None
    classifier: Path
    identity: str
    work: Path


@dataclass(frozen=True)
class Steps:
    """What the YAML file says of any such training.

    Args:
        size: side of the faces.
        steps: of training.
        pairs, unpaired: faces of a batch with and without a target.
        photographs: share of the pairs that are two photographs.
        singles: single faces, at most, that are sources too.
        report_every: steps between two lines of the log, two contact sheets and two states.
        seed: of weights and draws.
    """

    size: int = 128
    steps: int = 4000
    pairs: int = 16
    unpaired: int = 8
    photographs: float = 0.15
    singles: int = 4000
    report_every: int = 200
    seed: int = 0


Net = Callable[[Tensor], Tensor]
PairTrainer: TypeAlias = decoupled.Trainer | unet_cgan.Trainer


def train_on_pairs(
    sources: Sources,
    setting: Steps,
    model: Synthesizer,
    make_trainer: Callable[[LossNetworks], PairTrainer],
    load: Callable[[nn.Module], object],
    out: Path,
    minutes: float,
    device: torch.device,
    prepare: Callable[[Draw], None] | None = None,
) -> None:
    """Train a synthesizer, and save it at each report.

    Args:
        sources, setting: on what, and for how long.
        model: what is saved; its weights are those of the trainer's average.
        make_trainer: from the nets that its losses ask; categories are `CATEGORIES`.
        load: puts the trainer's average into the model.
        out: folder of the weights.
        minutes: stop after so long; 0 for never.
        device: where all of it is.
        prepare: what comes before the first step, with the batches to come.
    """
    sources.work.mkdir(parents=True, exist_ok=True)
    encoder = create_identity_encoder(sources.identity).to(device)
    classifier = load_fer_classifier(sources.classifier).to(device)
    faces, singles = read(sources, setting, encoder, device)
    watched = faces.group < HELD_OUT
    # nor is anyone trained on who is watched, in whatever group
    strangers = ~torch.isin(faces.person, faces.person[watched])
    draw = Draw(
        faces.take(strangers).to(device),
        singles.to(device),
        setting.size,
        len(CATEGORIES),
        setting.pairs,
        setting.unpaired,
        setting.photographs,
    )
    held = faces.take(watched).to(device)
    model.to(device).eval()

    def report(done: int) -> dict[str, float]:
        load(trainer.average)
        model.save_pretrained(out)
        return watch(model, held, classifier, encoder, sources.work / f"step-{done:06d}.png")

    print(f"{len(faces)} faces in pairs, {len(singles)} single", flush=True)
    if prepare is not None and not (sources.work / "state.pt").is_file():
        prepare(draw)
    trainer = make_trainer(LossNetworks(encoder, expression_net(classifier, CATEGORIES)))
    run(
        trainer,
        lambda: trainer.step(draw()),
        report,
        sources.work,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
        minutes=minutes,
    )


def read(
    sources: Sources, setting: Steps, encoder: Net, device: torch.device
) -> tuple[Faces, Faces]:
    """Return the faces in pairs, and the single ones, from the work folder if they are there."""

    def paired() -> Faces:
        parts = [read_pairs(sources.pairs, setting.size, CATEGORIES)]
        if sources.photographs is not None:
            parts.append(photographs(sources.photographs, setting.size, CATEGORIES))
        return embed(concatenate(parts), encoder, device)

    def single() -> Faces:
        faces = single_faces(sources.work, sources.sets, sources.half)
        chosen = torch.randperm(len(faces))[: setting.singles]
        some = embed(faces.take(chosen), encoder, device)
        faces.embedding = torch.zeros(len(faces), some.embedding.shape[1])
        faces.embedding[chosen] = some.embedding
        return faces

    of_pairs = (sources.pairs.stat().st_size, sources.photographs, setting.size, sources.identity)
    of_singles = (sources.sets, sources.half, setting.singles, sources.identity)
    return (
        cached(sources.work / "pairs.safetensors", paired, describe(*of_pairs)),
        cached(sources.work / "singles.safetensors", single, describe(*of_singles)),
    )
