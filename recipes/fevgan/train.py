"""Train `fevgan` from what `transfer` does to neutral faces.

    python -m recipes.embedder.train FER2013.parquet LFW.parquet@detect LONDON.parquet@detect \\
        --identity dlib --half 0 --out EMBEDDER
    python -m recipes.pairs.make_pairs DATA --out PAIRS
    python -m recipes.fevgan.lips DATA --out LIPS.safetensors
    python -m recipes.fevgan.train PAIRS --data DATA --embedder EMBEDDER --lips LIPS.safetensors \\
        --classifier CLASSIFIER --config recipes/fevgan/cpu.yaml --out expraug/weights/fevgan

A pair's clip is what it does, more and more of it, as an onset goes. CLASSIFIER, of which there may
be several, is a folder of `recipes.fer_classifier.train`; DATA and `--faces` are as
`recipes.real_faces` takes them. `--set encoders=spatial` or `identity` leaves out the other
encoder, to compare with.

`--minutes 10` stops after so long, and the same command goes on. Losses, and figures of people held
out of training, are appended to `log.csv` in `--work`, with a contact sheet beside it: distance to
what the examples do, as a share of that of standing still; agreement of the last frame with
CLASSIFIER; and the cosine of the worst frame to the source by EMBEDDER.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file
from torchvision.utils import save_image

from expraug.expressions import Expression
from expraug.faces.composite import masked
from expraug.faces.synthesized import canonical_part
from expraug.networks.embedder import load_face_embedder
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.onset import RHYTHM
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan.choose_codes import spread_codes
from recipes.fevgan.clips import HELD_OUT, Codes, DrawClips, held_out, neutral_rows, real_faces
from recipes.fevgan.trainer import Options, Trainer
from recipes.pairs.made import Pairs
from recipes.pairs.watching import expression_net
from recipes.training.loop import run
from recipes.training.loss_networks import LossNetworks
from recipes.training.options import load_settings

CATEGORIES = tuple(e for e in Expression if e != Expression.NEUTRAL)
SHEET = (6, 2)
"""People on a contact sheet, and those of them of whom there is a clip."""


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        size, frames, channels, noise, encoders, variants: of the net, as `FEVGANSynthesizer` takes
            them.
        steps: of training.
        batch: clips of a step.
        report_every: steps between two lines of the log, two contact sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    size: int = 64
    frames: int = 16
    channels: tuple[int, ...] = (192, 144, 96, 48, 16)
    noise: int = 17
    encoders: str = "both"
    variants: int = 16
    steps: int = 4000
    batch: int = 6
    report_every: int = 250
    seed: int = 0
    options: Options = field(default_factory=Options)


@torch.no_grad()  # not inference mode: masks made here are kept, and training needs them
def watch(
    model: FEVGANSynthesizer,
    pairs: Pairs,
    rows: np.ndarray,
    codes: Codes,
    classifiers: Sequence[FERNet],
    sheet: Path,
) -> dict[str, float]:
    """Make what held-out pairs hold from their codes, write the sheet, return the figures."""
    device = model.row.device
    grey, maps = pairs.faces(rows).to(device), pairs.maps(rows)
    target = torch.from_numpy(pairs.target[rows])
    category = model.row.cpu()[target]
    code = codes(maps, category).to(device)
    z = torch.cat([code.new_zeros(len(code), RHYTHM), code], 1)[:, : model.net.noise]
    small = torch.nn.functional.interpolate(grey, [model.image_size] * 2, mode="area")
    found = model.net(small, category.to(device), z, torch.full((len(z), 1), model.frames - 1))
    wanted = canonical_part(maps.flow)
    flow = torch.nn.functional.interpolate(canonical_part(found.flow).cpu(), wanted.shape[2:])
    moves = maps.moved_lips - maps.lips
    figures = {
        "flow, share of error": float((flow - wanted).abs().mean() / wanted.abs().mean()),
        "lips, share of error": float(
            (found.moved_lips.cpu() - maps.moved_lips).abs().mean() / moves.abs().mean()
        ),
        "lips before, pixels": float(64 * (found.lips.cpu() - maps.lips).abs().mean()),
    }
    faces = grey.expand(-1, 3, -1, -1)
    made = masked(found.applied(faces)).render(faces).clamp(0, 1)
    own = [c.probabilities(made).argmax(1).cpu() for c in classifiers]
    named = [
        torch.tensor([int(c.expressions[i]) for i in seen]) == target
        for c, seen in zip(classifiers, own, strict=True)
    ]
    figures["agreement"] = float(torch.stack(named).float().mean())
    who = (model.net.identity(made[:, :1]) * model.net.identity(grey)).sum(1)
    figures["cosine"] = float(who.mean())
    people, clips = SHEET
    unlike = np.unique(pairs.source[rows], return_index=True)[1][:people]
    cells = []
    for number, face in enumerate(faces[unlike]):
        every = torch.tensor([int(e) for e in model.expressions], device=device)
        several = face.expand(len(every), -1, -1, -1)
        variant = torch.full_like(every, number)
        full = torch.ones(len(every), device=device)
        shown = masked(model.synthesize(several, every, full, variant=variant))
        cells += [face[None], shown.render(several)]
        if number < clips:
            one = every[2 + number : 3 + number]
            frames = model.synthesize_clip(face[None], one, 1 + len(every))
            cells += [masked(f).render(face[None]) for f in frames]
    picture = torch.cat(cells)[:, :1].clamp(0, 1)
    save_image(picture, sheet, nrow=1 + len(model.expressions), padding=1)
    return figures


def main(
    pairs: Annotated[Path, typer.Argument(help="Folder that recipes.pairs.make_pairs wrote.")],
    data: Annotated[Path, typer.Option(help="Folder of the sets of real faces.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/fevgan.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    embedder: Annotated[Path, typer.Option(help="Folder of recipes.embedder.train.")],
    lips: Annotated[Path, typer.Option(help="What recipes.fevgan.lips wrote.")],
    classifier: Annotated[
        list[Path], typer.Option(help="Folder of recipes.fer_classifier.train; several.")
    ],
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.video=0; several.")
    ] = None,
    faces: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    work: Path = Path("work/fevgan"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting, on = load_settings(Setting, config, option or []), torch.device(device)
    work.mkdir(parents=True, exist_ok=True)
    made = Pairs.load(pairs)
    rows = neutral_rows(made, CATEGORIES)
    watched = held_out(made, rows, HELD_OUT)
    all_maps = made.maps(rows)
    category = torch.tensor([CATEGORIES.index(Expression(int(t))) for t in made.target[rows]])
    codes = Codes(all_maps, category, setting.noise - RHYTHM, torch.from_numpy(~watched))
    real = real_faces(data, faces, CATEGORIES)
    size = (setting.size, setting.frames, setting.noise, setting.batch)
    draw = DrawClips(made, rows[~watched], CATEGORIES, codes, real, *size)
    nets = [load_fer_classifier(folder).to(on) for folder in classifier]
    torch.manual_seed(setting.seed)
    arguments: dict[str, Any] = {
        "expressions": [str(c) for c in CATEGORIES],
        "image_size": setting.size,
        "frames": setting.frames,
        "channels": setting.channels,
        "noise": setting.noise,
        "encoders": setting.encoders,
        "variants": setting.variants,
    }
    learning, model = (FEVGANSynthesizer(**arguments) for _ in range(2))
    learning.net.identity.load_state_dict(load_face_embedder(embedder).state_dict())
    learning.net.mouth.load_state_dict(load_file(lips))
    found = codes(all_maps, category)
    for number in range(len(CATEGORIES)):
        own = found[(category == number) & torch.from_numpy(~watched)]
        model.codes[number] = spread_codes(own, setting.variants, setting.seed)
    trainer = Trainer(
        learning.net,
        len(CATEGORIES),
        setting.options,
        setting.steps,
        [LossNetworks(expression=expression_net(net, CATEGORIES)) for net in nets],
        on,
    )
    model.to(on).eval()

    def report(done: int) -> dict[str, float]:
        model.net.load_state_dict(trainer.average.state_dict())
        model.save_pretrained(out)
        return watch(model, made, rows[watched], codes, nets, work / f"step-{done:06d}.png")

    shown = ", ".join(f"{len(r)} {c}" for r, c in zip(real, CATEGORIES, strict=True))
    print(
        f"{int((~watched).sum())} clips, {int(watched.sum())} held out; real: {shown}", flush=True
    )
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


if __name__ == "__main__":
    typer.run(main)
