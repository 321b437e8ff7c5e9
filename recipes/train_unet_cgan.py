"""Train `unet_cgan` from pairs and from single real faces.

    python recipes/make_pairs.py LONDON.parquet LFW.parquet --identity dlib:FOLDER --judge JUDGE \\
        --limit 2200 --variants 1 --size 128 --out PAIRS.parquet
    python recipes/train_unet_cgan.py PAIRS.parquet FER2013.parquet LFW.parquet@detect \\
        --photographs LONDON.parquet --identity dlib:FOLDER --judge JUDGE --half 0 \\
        --config recipes/configs/unet_cgan/cpu.yaml --out expraug/weights/unet_cgan

PAIRS is what `make_pairs.py` wrote; the sets behind it are single real faces, as `train_judge.py`
takes them, of the half whose faces JUDGE knows (`--half`): the judge of the evaluation knows the
other. `--photographs` holds people photographed neutral and happy; training people are used.

`--minutes 10` stops after so long, and the same command goes on. Losses, and on faces held out of
training the agreement with JUDGE, the cosine to the source and the L1 to the target, are appended
to `log.csv` in `--work`, with a contact sheet beside it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from logs import append_line, save_state
from options import fill, read_yaml
from pairs import aligned_pairs
from torch import Tensor
from torchvision.transforms.v2.functional import resize
from torchvision.utils import save_image
from train_judge import prepared, vary
from unet_cgan.data import (
    Draw,
    Faces,
    cached,
    concatenate,
    describe,
    embed,
    person_number,
    read_pairs,
)

from expraug.datasets import person_split
from expraug.evaluate.judge import FerJudge, load_judge
from expraug.expressions import Expression, places
from expraug.faces.identity import create_identity_encoder
from expraug.faces.paste import face_mask, luminance
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from expraug.training.unet_cgan import Options, Trainer

HELD_OUT = 32
"""Groups of pairs that are not trained on, to watch the training by."""


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        size, width: of the net, as `UNetCGANSynthesizer` takes them.
        steps: of training.
        pairs, unpaired: faces of a batch with and without a target.
        photographs: share of the pairs that are two photographs.
        singles: single faces, at most, that are sources too.
        report_every: steps between two lines of the log, two contact sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    size: int = 128
    width: int = 32
    steps: int = 4000
    pairs: int = 16
    unpaired: int = 8
    photographs: float = 0.15
    singles: int = 4000
    report_every: int = 200
    seed: int = 0
    options: Options = field(default_factory=Options)


def read_setting(config: Path, changes: list[str]) -> Setting:
    """Read the YAML file, with changes such as "options.triplet=0" on top.

    Raises:
        ValueError: an unknown option.
    """
    data = read_yaml(config, changes)
    options = fill(Options, data.pop("options", {}), "options")
    return fill(Setting, data | {"options": options}, str(config))


def photographs(path: Path, size: int, categories: tuple[Expression, ...]) -> Faces:
    """Return the training people that were photographed neutral and happy, a group each."""
    people = aligned_pairs(path, size)
    faces, shown, group, person = [], [], [], []
    for number, who in enumerate(k for k in people if person_split(k) == "train"):
        for expression, face in people[who].items():
            faces.append((luminance(face[None])[0] * 255).round().to(torch.uint8))
            shown.append(categories.index(expression))
            group.append(number)
            person.append(person_number(who))
    return Faces(
        torch.stack(faces),
        torch.tensor(shown),
        torch.tensor(group),
        torch.tensor(person),
        torch.ones(len(group), dtype=torch.bool),
        torch.empty(len(group), 0),
    )


def single_faces(work: Path, sets: list[str], half: int | None) -> Faces:
    """Return real faces of sets, each a group of its own; the categories are expressions."""
    data = [prepared(work, name, half, "train") for name in sets]
    labels = torch.cat([d["labels"] for d in data])
    order = torch.arange(len(labels))
    real = torch.ones(len(labels), dtype=torch.bool)
    pixels = torch.cat([d["faces"] for d in data])
    return Faces(pixels, labels, order, order, real, torch.empty(len(labels), 0))


def expression_net(
    judge: FerJudge, categories: tuple[Expression, ...]
) -> Callable[[Tensor], Tensor]:
    """Return the judge's logits of altered faces, so that no single pixel can please it."""
    columns = places(judge.expressions)[[int(c) for c in categories]]
    known = columns >= 0

    def logits(faces: Tensor) -> Tensor:
        found = judge(vary(resize(faces, [64, 64])))[:, columns]
        return found.masked_fill(~known.to(found.device), -torch.inf)

    return logits


@torch.inference_mode()
def watch(
    model: UNetCGANSynthesizer,
    held: Faces,
    judge: FerJudge,
    encoder: Callable[[Tensor], Tensor],
    sheet: Path,
) -> dict[str, float]:
    """Make every expression of the held-out photographs, write the sheet, return the figures."""
    shown = held.photograph.nonzero().flatten()
    grey = held.pixels[shown].float() / 255
    mask = face_mask(model.image_size).to(grey.device)
    rows, figures = [grey], defaultdict(list)
    place = {
        (g, c): i
        for i, (g, c) in enumerate(zip(held.group.tolist(), held.category.tolist(), strict=True))
    }
    for number, expression in enumerate(model.expressions):
        faces = grey.expand(-1, 3, -1, -1)
        asked = torch.full((len(faces),), int(expression), device=grey.device)
        made = model(faces, asked, torch.ones(len(faces), device=grey.device))
        made = (faces + (made - faces) * mask).clamp(0, 1)
        rows.append(made[:, :1])
        if expression in judge.expressions and expression != Expression.NEUTRAL:
            column = judge.expressions.index(expression)
            right = judge.probabilities(made).argmax(1) == column
            figures["agreement"].append(float(right.float().mean()))
        cosine = (encoder(made) * held.embedding[shown]).sum(1)
        figures["cosine"].append(float(cosine.mean()))
        pairs = [
            (n, place[g, number])
            for n, g in enumerate(held.group[shown].tolist())
            if (g, number) in place
        ]
        if pairs and expression != Expression.NEUTRAL:
            mine, theirs = (list(side) for side in zip(*pairs, strict=True))
            wanted = held.pixels[theirs].float() / 255
            figures["l1 to target"].append(float((made[mine, :1] - wanted).abs().mean()))
            figures["l1 of copying"].append(float((grey[mine] - wanted).abs().mean()))
    columns = torch.stack(rows, 1)[:8].flatten(0, 1)
    save_image(columns, sheet, nrow=len(rows), padding=1)
    return {name: sum(values) / len(values) for name, values in figures.items()}


def main(
    pairs: Annotated[Path, typer.Argument(help="What make_pairs.py wrote.")],
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/configs/unet_cgan.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    judge: Annotated[Path, typer.Option(help="Folder of train_judge.py, not the embedded one.")],
    real_pairs: Annotated[Path | None, typer.Option("--photographs")] = None,
    identity: Annotated[str, typer.Option(help="'facenet' or 'dlib:PATH'")] = "facenet",
    half: Annotated[int | None, typer.Option(min=0, max=1)] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.triplet=0; several.")
    ] = None,
    work: Path = Path("work/unet_cgan"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    start = time.monotonic()
    setting = read_setting(config, option or [])
    on = torch.device(device)
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(setting.seed)
    categories = tuple(Expression)
    encoder = create_identity_encoder(identity).to(on)
    the_judge = load_judge(judge).to(on)

    def paired() -> Faces:
        parts = [read_pairs(pairs, setting.size, categories)]
        if real_pairs is not None:
            parts.append(photographs(real_pairs, setting.size, categories))
        return embed(concatenate(parts), encoder, on)

    def single() -> Faces:
        faces = single_faces(work, sets, half)
        chosen = torch.randperm(len(faces))[: setting.singles]
        some = embed(faces.take(chosen), encoder, on)
        faces.embedding = torch.zeros(len(faces), some.embedding.shape[1])
        faces.embedding[chosen] = some.embedding
        return faces

    made_of = (pairs.stat().st_size, real_pairs, setting.size, identity)
    faces = cached(work / "pairs.safetensors", paired, describe(*made_of))
    singles = cached(
        work / "singles.safetensors", single, describe(sets, half, setting.singles, identity)
    )
    watched = faces.group < HELD_OUT
    # nor is anyone trained on who is watched, in whatever group
    strangers = ~torch.isin(faces.person, faces.person[watched])
    draw = Draw(
        faces.take(strangers).to(on),
        singles.to(on),
        setting.size,
        len(categories),
        setting.pairs,
        setting.unpaired,
        setting.photographs,
    )
    held = faces.take(watched).to(on)
    names = [str(c) for c in categories]
    model = UNetCGANSynthesizer(names, setting.size, setting.width)
    trainer = Trainer(
        model.generator,
        len(categories),
        setting.options,
        setting.steps,
        encoder,
        expression_net(the_judge, categories),
        on,
    )
    checkpoint = work / "state.pt"
    if checkpoint.is_file():
        trainer.load_state_dict(torch.load(checkpoint, weights_only=True, map_location=on))
    kept = UNetCGANSynthesizer(names, setting.size, setting.width).to(on).eval()
    sums: dict[str, list[float]] = defaultdict(list)
    began = time.monotonic()
    print(f"{len(faces)} faces in pairs, {len(singles)} single; from step {trainer.step_count}")
    while trainer.step_count < setting.steps:
        step = trainer.step_count
        torch.manual_seed(setting.seed * 1_000_003 + step)
        for name, value in trainer.step(draw()).items():
            sums[name].append(value)
        late = bool(minutes) and time.monotonic() - start > 60 * minutes
        if (step + 1) % setting.report_every and step + 1 < setting.steps and not late:
            continue
        kept.generator.load_state_dict(trainer.average.state_dict())
        found = watch(kept, held, the_judge, encoder, work / f"step-{step + 1:06d}.png")
        line = {"step": step + 1, "seconds": round(time.monotonic() - began)}
        line |= {k: round(sum(v) / len(v), 5) for k, v in sums.items()}
        line |= {k: round(v, 5) for k, v in found.items()}
        append_line(work / "log.csv", line)
        print(line, flush=True)
        sums.clear()
        kept.save_pretrained(out)
        save_state(checkpoint, trainer.state_dict())
        if late:
            print(f"stopped after {minutes:g} minutes; the same command goes on")
            return


if __name__ == "__main__":
    typer.run(main)
