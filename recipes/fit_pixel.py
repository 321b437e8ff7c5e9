"""Fit `pixel` from pairs: two photographs of one person, one for each expression.

    python recipes/fit_pixel.py --pairs PAIRS.parquet --out expraug/weights/pixel

Of the people in PAIRS only the training split is used (`expraug.datasets.person_split`), and of
those the share whose mouths change most (`--strongest`): a "smiling" photograph that shows no smile
teaches the map to do nothing. Ridge, pooling and share were chosen with `--cross-validate`, which
prints the gain over copying the source on training people left out of five folds: all of them, the
weak smiles too.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import torch
import typer
from pairs import aligned_pairs

from expraug.datasets import person_split
from expraug.expressions import Expression
from expraug.faces import face_mask
from expraug.faces.paste import luminance
from expraug.synthesizers.pixel import PixelFit, PixelSynthesizer

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY
DIRECTIONS = [(NEUTRAL, HAPPY), (HAPPY, NEUTRAL)]


def fit(
    pairs: dict[str, dict[Expression, torch.Tensor]], size: int, ridge: float, pooling: float
) -> PixelSynthesizer:
    """Fit both directions on every person in `pairs`, each also mirrored."""
    model = PixelSynthesizer({str(t): [str(s)] for s, t in DIRECTIONS}, size)
    for row, (source, target) in enumerate(DIRECTIONS):
        sums = PixelFit(size)
        for faces in pairs.values():
            for flip in (False, True):
                x, y = (faces[e].flip(-1) if flip else faces[e] for e in (source, target))
                sums.add(x[None], y[None])
        weight, bias = sums.solve(ridge, pooling)
        model.weight[row], model.bias[row] = weight, bias
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
                model = fit(rest, size, r, pool)
                gains.append(psnr_gain(model, {k: people[k] for k in held}))
            gain = sum(gains) / len(gains)
            print(f"ridge {r:<4} pooling {pool:<4} strongest {top:<4} gain {gain:+.3f} dB")
    if out:
        fit(strongest(people, share), size, ridge, pooling).save_pretrained(out)
        print(f"{out}: {PixelSynthesizer.from_pretrained(out).fingerprint}")


if __name__ == "__main__":
    typer.run(main)
