"""Fit `pixel` from pairs: two faces of one person, one for each expression.

    python -m recipes.pixel.fit --pairs LONDON.parquet --made PAIRS.parquet \\
        --out expraug/weights/pixel

`--pairs` holds real photographs, neutral and smiling, and alone decides on these two directions.
`--made` holds what `recipes.pairs.make_pairs` wrote, from which neutral faces learn the
expressions that no real pairs show; without it there are only the two.

Of the people in LONDON only the training split is used (`expraug.datasets.person_split`), and of
those the share whose mouths change most (`--strongest`): a "smiling" photograph that shows no smile
teaches the map to do nothing. Ridge, pooling and share were chosen with `--cross-validate`, which
prints the gain over copying the source on training people left out of five folds: all of them, the
weak smiles too.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from expraug.datasets import person_split
from expraug.expressions import Expression
from expraug.faces import face_mask
from expraug.faces.composite import luminance
from expraug.synthesizers.pixel import PixelFit, PixelSynthesizer
from recipes.pairs.london import aligned_pairs, grouped

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY
DIRECTIONS = [(NEUTRAL, HAPPY), (HAPPY, NEUTRAL)]
FAINTER = {Expression.SURPRISE: 0.5, Expression.FEAR: 0.5}
"""Of the change around the mouth: a map can darken a mouth that opens but not draw it, and in full
it is a blot below the lips. Brows and lids keep theirs."""
MOUTH_TOP = 0.58
"""From there down the change is made fainter, as a fraction of the frame."""
Maps = dict[tuple[Expression, Expression], tuple[torch.Tensor, torch.Tensor]]
"""Weight and bias by source and target."""


def fit(
    pairs: dict[str, dict[Expression, torch.Tensor]], size: int, ridge: float, pooling: float
) -> Maps:
    """Fit both directions on every person in `pairs`, each also mirrored."""
    maps = {}
    for source, target in DIRECTIONS:
        sums = PixelFit(size)
        for faces in pairs.values():
            add_both_ways(sums, faces[source], faces[target])
        maps[source, target] = sums.solve(ridge, pooling)
    return maps


def add_both_ways(sums: PixelFit, source: torch.Tensor, target: torch.Tensor) -> None:
    """Add a pair as it is and mirrored."""
    sums.add(torch.stack([source, source.flip(-1)]), torch.stack([target, target.flip(-1)]))


def fit_made(path: Path, size: int, ridge: float, pooling: float) -> Maps:
    """Fit the directions that only made pairs show, on the first variant of each."""
    sums: dict[Expression, PixelFit] = defaultdict(lambda: PixelFit(size))
    for group in grouped(path, size):
        for target, face in group.items():
            if target not in (NEUTRAL, HAPPY):
                add_both_ways(sums[target], group[NEUTRAL], face)
    rows = (torch.arange(size) + 0.5) / size
    mouth = ((rows - MOUTH_TOP) / 0.06).clamp(0, 1)[:, None]
    maps: Maps = {}
    for target, s in sorted(sums.items()):
        keep = 1 - (1 - FAINTER.get(target, 1.0)) * mouth
        weight, bias = s.solve(ridge, pooling)
        maps[NEUTRAL, target] = weight * keep, bias * keep
    return maps


def synthesizer(maps: Maps, size: int) -> PixelSynthesizer:
    """Return the synthesizer of these maps, targets in the order of `Expression`."""
    ordered = sorted(maps, key=lambda direction: direction[1])
    model = PixelSynthesizer({str(t): [str(s)] for s, t in ordered}, size)
    for row, direction in enumerate(ordered):
        model.weight[row], model.bias[row] = maps[direction]
    return model.eval().requires_grad_(False)


def strongest(
    people: dict[str, dict[Expression, torch.Tensor]], share: float
) -> dict[str, dict[Expression, torch.Tensor]]:
    """Keep the people whose luminance changes most around the mouth."""

    def change(faces: dict[Expression, torch.Tensor]) -> float:
        difference = luminance(torch.stack([faces[e] for e in (HAPPY, NEUTRAL)])).diff(dim=0).abs()
        size = difference.shape[-1]
        top, bottom, left, right = (round(f * size) for f in (0.61, 0.875, 0.31, 0.69))
        return float(difference[..., top:bottom, left:right].mean())

    ranked = sorted(people, key=lambda who: -change(people[who]))
    return {who: people[who] for who in ranked[: round(share * len(ranked))]}


def psnr_gain(model: PixelSynthesizer, pairs: dict[str, dict[Expression, torch.Tensor]]) -> float:
    """Return the mean gain in PSNR over copying the source, in dB, over people and directions."""
    gains = []
    for source, target in DIRECTIONS:
        x = torch.stack([p[source] for p in pairs.values()])
        y = torch.stack([p[target] for p in pairs.values()])
        made = model(x, torch.full((len(x),), int(target)), torch.ones(len(x)))
        made = x + (made - x) * face_mask(model.image_size)  # as paste-back does
        errors = [(image - y).square().mean(dim=(1, 2, 3)) for image in (made, x)]
        gains.append(10 * torch.log10(errors[1] / errors[0]))
    return float(torch.cat(gains).mean())


def main(
    pairs: Annotated[Path, typer.Option(help="Parquet with image, expression, identity.")],
    made: Annotated[Path | None, typer.Option(help="What recipes.pairs.make_pairs wrote.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for weights and config.")] = None,
    size: int = 128,
    ridge: float = 0.4,
    pooling: float = 1.5,
    share: Annotated[float, typer.Option("--strongest", help="Share of people kept.")] = 0.6,
    cross_validate: bool = False,
) -> None:
    everyone = aligned_pairs(pairs, size)
    people = {k: v for k, v in everyone.items() if person_split(k) == "train"}
    print(f"{len(people)} of {len(everyone)} people train")
    if not people:
        raise SystemExit(f"{pairs}: no one to fit on, all people are in other splits")
    if cross_validate:
        names = sorted(people)
        grid = itertools.product((0.4, 1.0, 4.0), (0.0, 1.5, 3.0), (0.4, 0.6, 1.0))
        for r, pool, top in grid:
            gains = []
            for fold in range(5):
                held = set(names[fold::5])
                rest = strongest({k: people[k] for k in names if k not in held}, top)
                model = synthesizer(fit(rest, size, r, pool), size)
                gains.append(psnr_gain(model, {k: people[k] for k in held}))
            gain = sum(gains) / len(gains)
            print(f"ridge {r:<4} pooling {pool:<4} strongest {top:<4} gain {gain:+.3f} dB")
    if out:
        maps = fit(strongest(people, share), size, ridge, pooling)
        maps |= fit_made(made, size, ridge, pooling) if made else {}
        synthesizer(maps, size).save_pretrained(out)
        print(f"{out}: {PixelSynthesizer.from_pretrained(out).fingerprint}")


if __name__ == "__main__":
    typer.run(main)
