"""The training of the mouth painter, from mouths that have been read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import save_image

from expraug.networks.mouth_painter import MouthPainter, lay, load_mouth_painter
from recipes.mouth_painter.data import SPLITS, Mouths
from recipes.mouth_painter.drawing import EVENNESS, Batch, Draw, codes_of, nearest
from recipes.mouth_painter.trainer import Options, Trainer, paint
from recipes.real_faces import LFW, LONDON
from recipes.training.loop import RunOptions, run

SHOWN = 48
"""Mouths on a sheet."""


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        width: of the painter, as `MouthPainter` takes it.
        steps: of training.
        batch: mouths of a step.
        others: share of them that get another's code.
        report_every: steps between two lines of the log, two sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    width: int = 24
    steps: int = 4000
    batch: int = 24
    others: float = 0.4
    report_every: int = 200
    seed: int = 0
    options: Options = field(default_factory=Options)


def learn(
    setting: Setting,
    mouths: Mouths,
    run_options: RunOptions,
    colour: Tensor | None = None,
    start: Path | None = None,
) -> None:
    """Train, and write the weights at each report.

    Args:
        setting: see there.
        mouths: grey; those of training people are learned from, others are watched.
        run_options: where, and for how long.
        colour: as `recipes.mouth_painter.colour.fit_colour` returns it; None: that of the start.
        start: folder of weights of the same width to start from.
    """
    device = run_options.device
    torch.manual_seed(setting.seed)
    draw = Draw(taught(mouths).to(device), setting.batch, setting.others)
    held = held_out(mouths).to(device)
    painter = MouthPainter(setting.width)
    if start is not None:
        painter.load_state_dict(load_mouth_painter(start).state_dict())
    if colour is not None:
        painter.colour.copy_(colour)
    trainer = Trainer(painter, setting.options, setting.steps, device)
    kept = MouthPainter(setting.width).to(device).eval()

    def report(done: int) -> dict[str, float]:
        kept.load_state_dict(trainer.average.state_dict())
        kept.save_pretrained(run_options.out)
        return watch(kept, held, run_options.sheet(done))

    run(
        trainer,
        lambda: trainer.step(draw()),
        report,
        run_options,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
    )


def taught(mouths: Mouths) -> Mouths:
    """Return the mouths of training people."""
    return mouths.take(mouths.split == SPLITS.index("train"))


def held_out(mouths: Mouths) -> Mouths:
    """Return mouths to watch the training by: of London and of LFW's validation people, from
    hardly open to wide open."""
    lfw = (mouths.origin == LFW) & (mouths.split == SPLITS.index("validation"))
    london = (mouths.origin == LONDON) & (mouths.split != SPLITS.index("train"))
    rows = lfw.nonzero()[:, 0]
    rows = rows[mouths.gap[rows].argsort()]
    rest = SHOWN - int(london.sum())
    if len(rows) > rest:  # evenly over openings, not over faces
        even = (mouths.gap[rows].diff() ** EVENNESS).cumsum(0)
        rows = rows[torch.searchsorted(even, torch.linspace(0, float(even[-1]), rest)).unique()]
    return mouths.take(torch.cat([london.nonzero()[:, 0], rows]))


@torch.inference_mode()
def watch(painter: MouthPainter, held: Mouths, sheet: Path) -> dict[str, float]:
    """Paint held-out mouths, write the sheet, return the figures."""
    grey = held.pixels.float() / 255
    codes = codes_of(held)
    like_it = nearest(held, held, 4)[:, -1]
    made: list[Tensor] = []
    figures = {}
    for name, code in (("own", codes), ("other", codes[like_it])):
        own = torch.ones(len(held), dtype=torch.bool, device=grey.device)
        batch = Batch(grey, held.window(), code, own, held.origin)
        painted = paint(painter, batch)
        count = painted.inside.sum()
        if name == "own":
            error = (painted.made - painted.real).abs()
            figures["l1 to real"] = float((error * painted.inside).sum() / count)
        slopes = [
            (windows.diff(dim=3).abs() * painted.inside[..., 1:]).sum()
            for windows in (painted.made, painted.real)
        ]
        figures[f"sharpness, {name}"] = float(slopes[0] / slopes[1])
        made.append((painted.made + 1) * painted.level)
    code_shown = (lay(codes, painted.outline) + 1) * painted.level * painted.inside
    columns = torch.stack([grey, code_shown, *made], 1).flatten(0, 1).clamp(0, 1)
    columns = torch.nn.functional.interpolate(columns, scale_factor=2, mode="bilinear")
    save_image(columns, sheet, nrow=12, padding=1)
    return figures
