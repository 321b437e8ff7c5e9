"""Train `fevgan` from clips.

    python -m recipes.embedder.train FER2013.parquet LFW.parquet@detect LONDON.parquet@detect \\
        --identity dlib --half 0 --out EMBEDDER
    python -m recipes.pairs.make_clips LONDON.parquet LFW.parquet --identity dlib \\
        --classifier CLASSIFIER \\
        --out CLIPS.parquet
    python -m recipes.fevgan.train CLIPS.parquet --embedder EMBEDDER --identity dlib \\
        --classifier CLASSIFIER --config recipes/fevgan/cpu.yaml --out expraug/weights/fevgan

`--set encoders=spatial` or `identity` leaves out the other encoder, to compare with.

`--minutes 10` stops after so long, and the same command goes on. Losses, and figures of people held
out of training, are appended to `log.csv` in `--work`, with a contact sheet beside it: L1 to the
clip and of copying the source, agreement of the last frame with CLASSIFIER, and the cosine to the
source by `--identity` of the last frame and by EMBEDDER of the worst frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torchvision.utils import save_image

from expraug.expressions import Expression
from expraug.faces.composite import face_mask
from expraug.networks.embedder import load_face_embedder
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import create_identity_encoder
from expraug.networks.onset import onset
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan.trainer import Options, Trainer
from recipes.pairs.clips import Clips, DrawClips, read_clips, resample
from recipes.pairs.training import HELD_OUT
from recipes.pairs.watching import expression_net
from recipes.training.loop import run
from recipes.training.loss_networks import LossNetworks
from recipes.training.options import load_settings

CATEGORIES = tuple(e for e in Expression if e != Expression.NEUTRAL)
SHEET = (4, 8)
"""People and frames on a contact sheet, at most."""


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        size, frames, channels, noise, encoders: of the net, as `FEVGANSynthesizer` takes them.
        steps: of training.
        batch: clips of a step.
        report_every: steps between two lines of the log, two contact sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    size: int = 64
    frames: int = 16
    channels: tuple[int, ...] = (224, 160, 96, 64, 24)
    noise: int = 8
    encoders: str = "both"
    steps: int = 8000
    batch: int = 6
    report_every: int = 250
    seed: int = 0
    options: Options = field(default_factory=Options)


@torch.inference_mode()
def watch(
    model: FEVGANSynthesizer,
    held: Clips,
    classifier: FERNet,
    encoder: Callable[[Tensor], Tensor] | None,
    sheet: Path,
) -> dict[str, float]:
    """Make the held-out clips from their first frames, write the sheet, return the figures."""
    source = held.levels[:, :1].float() / 255
    faces, mask = source.expand(-1, 3, -1, -1), face_mask(model.image_size).to(source)
    target = torch.tensor([int(e) for e in model.expressions], device=source.device)[held.category]
    made = model.clip(faces, target, model.frames)
    made = (faces[:, None] + (made - faces[:, None]) * mask).clamp(0, 1)
    curve = onset(source.new_zeros(len(held), 2), model.frames)
    wanted = resample(held.levels.float() / 255, curve)
    identity = model.net.identity
    frames = identity(made[:, :, :1].flatten(0, 1)).unflatten(0, made.shape[:2])
    # each clip has a worst frame of its own: a mean over all frames would hide it
    worst = (frames * identity(source)[:, None]).sum(2).amin(1)
    figures = {
        "l1 to clip": float((made[:, :, :1] - wanted).abs().mean()),
        "l1 of copying": float((source[:, None] - wanted).abs().mean()),
        "worst cosine": float(worst.mean()),
    }
    if encoder is not None:
        figures["cosine"] = float((encoder(made[:, -1]) * encoder(faces)).sum(1).mean())
    known = [e for e in model.expressions if e in classifier.expressions]
    right = classifier.probabilities(made[:, -1]).argmax(1)
    hits = [
        (right[target == int(e)] == classifier.expressions.index(e)).float().mean()
        for e in known
        if (target == int(e)).any()
    ]
    if hits:
        figures["agreement"] = float(torch.stack(hits).mean())
    people, columns = SHEET
    shown = torch.isin(held.group, held.group.unique()[:people]).nonzero().flatten()
    times = torch.linspace(0, model.frames - 1, columns).round().long()
    picture = made[shown][:, times, :1].flatten(0, 1)
    save_image(picture, sheet, nrow=columns, padding=1)
    return figures


def main(
    clips: Annotated[list[Path], typer.Argument(help="What recipes.pairs.make_clips wrote.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/fevgan.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    embedder: Annotated[Path, typer.Option(help="Folder of recipes.embedder.train.")],
    classifier: Annotated[
        Path, typer.Option(help="Folder of recipes.fer_classifier.train, not the embedded one.")
    ],
    identity: Annotated[
        str | None, typer.Option(help="'dlib' or 'facenet'; else no triplet.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.video=0; several.")
    ] = None,
    work: Path = Path("work/fevgan"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting, on = load_settings(Setting, config, option or []), torch.device(device)
    work.mkdir(parents=True, exist_ok=True)
    data = read_clips(clips, setting.size, CATEGORIES)
    watched = torch.isin(data.group, data.group.unique()[:HELD_OUT])
    # nor is anyone trained on who is watched, in whatever group
    strangers = ~torch.isin(data.person, data.person[watched])
    if not strangers.any():
        raise ValueError(
            f"{len(data.group.unique())} neutral faces in {', '.join(map(str, clips))}, of which "
            f"{HELD_OUT} and the people they show are held out: make more clips"
        )
    draw = DrawClips(data.take(strangers).to(on), setting.frames, setting.noise, setting.batch)
    held = data.take(watched).to(on)
    encoder = create_identity_encoder(identity).to(on) if identity else None
    fer_classifier = load_fer_classifier(classifier).to(on)
    torch.manual_seed(setting.seed)
    arguments: dict[str, Any] = {
        "expressions": [str(c) for c in CATEGORIES],
        "image_size": setting.size,
        "frames": setting.frames,
        "channels": setting.channels,
        "noise": setting.noise,
        "encoders": setting.encoders,
    }
    learning, model = (FEVGANSynthesizer(**arguments) for _ in range(2))
    learning.net.identity.load_state_dict(load_face_embedder(embedder).state_dict())
    trainer = Trainer(
        learning.net,
        len(CATEGORIES),
        setting.options,
        setting.steps,
        LossNetworks(encoder, expression_net(fer_classifier, CATEGORIES)),
        on,
    )
    model.to(on).eval()

    def report(done: int) -> dict[str, float]:
        model.net.load_state_dict(trainer.average.state_dict())
        model.save_pretrained(out)
        return watch(model, held, fer_classifier, encoder, work / f"step-{done:06d}.png")

    print(f"{int(strangers.sum())} clips, {len(held)} held out", flush=True)
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


if __name__ == "__main__":
    typer.run(main)
