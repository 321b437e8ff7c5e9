"""The training of `fevgan`, from data that have been read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import save_image

from expraug.expressions import Expression
from expraug.faces.composite import masked
from expraug.faces.synthesized import canonical_part
from expraug.networks.class_index import class_index
from expraug.networks.fer_classifier import FERNet
from expraug.networks.onset import RHYTHM
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan.choose_codes import spread_codes
from recipes.fevgan.clips import HELD_OUT, Codes, DrawClips, held_out, neutral_rows
from recipes.fevgan.trainer import Options, Trainer
from recipes.pairs.data import importance
from recipes.pairs.made import Pairs
from recipes.pairs.watching import expression_net
from recipes.training.loop import RunOptions, run
from recipes.training.loss_networks import LossNetworks

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


def _last(model: FEVGANSynthesizer, count: int) -> Tensor:
    """Return the number of the last frame for each of so many clips."""
    return torch.full((count, 1), model.frames - 1, device=model.row.device)


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
    found = model.net(small, category.to(device), z, _last(model, len(z)))
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


def new_synthesizer(setting: Setting) -> FEVGANSynthesizer:
    """Return a synthesizer of the shape that a setting says, which has learned nothing."""
    return FEVGANSynthesizer(
        expressions=[str(c) for c in CATEGORIES],
        image_size=setting.size,
        frames=setting.frames,
        channels=setting.channels,
        noise=setting.noise,
        encoders=setting.encoders,
        variants=setting.variants,
    )


def learn(
    setting: Setting,
    pairs: Pairs,
    real: Sequence[Tensor],
    classifiers: Sequence[FERNet],
    start: FEVGANSynthesizer,
    run_options: RunOptions,
) -> None:
    """Train, and write the weights at each report.

    Args:
        setting: see there.
        pairs: what is learned from.
        real: as `recipes.fevgan.clips.real_faces` returns them.
        classifiers: nets that are asked what faces show.
        start: whose net is trained; where lips are and who a face is, it knows already.
        run_options: where, and for how long.
    """
    device = run_options.device
    rows = neutral_rows(pairs, CATEGORIES)
    watched = held_out(pairs, rows, HELD_OUT)
    all_maps = pairs.maps(rows)
    category = class_index(CATEGORIES)[torch.from_numpy(pairs.target[rows])]
    learned = torch.from_numpy(~watched)
    codes = Codes(all_maps, category, setting.noise - RHYTHM, learned)
    size = (setting.size, setting.frames, setting.noise, setting.batch)
    draw = DrawClips(pairs, rows[~watched], CATEGORIES, codes, real, *size, device)
    nets = [net.to(device).requires_grad_(False) for net in classifiers]
    torch.manual_seed(setting.seed)
    model = new_synthesizer(setting)
    found = codes(all_maps, category)
    for number in range(len(CATEGORIES)):
        own = found[(category == number) & learned]
        model.codes[number] = spread_codes(own, setting.variants, setting.seed)
    del all_maps, found
    trainer = Trainer(
        start.net.requires_grad_(True),
        len(CATEGORIES),
        setting.options,
        setting.steps,
        [LossNetworks(expression=expression_net(net, CATEGORIES)) for net in nets],
        device,
        importance(pairs.mesh),
    )
    for frozen in (start.net.identity, start.net.mouth):
        frozen.requires_grad_(False)
    model.to(device).eval().requires_grad_(False)

    def report(done: int) -> dict[str, float]:
        model.net.load_state_dict(trainer.average.state_dict())
        model.save_pretrained(run_options.out)
        return watch(model, pairs, rows[watched], codes, nets, run_options.sheet(done))

    shown = ", ".join(f"{len(r)} {c}" for r, c in zip(real, CATEGORIES, strict=True))
    print(
        f"{int((~watched).sum())} clips, {int(watched.sum())} held out; real: {shown}", flush=True
    )
    run(
        trainer,
        lambda: trainer.step(draw()),
        report,
        run_options,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
    )
