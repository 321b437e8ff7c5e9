"""Choose the codes that `unet_cgan` counts through, and how strong each expression is.

    python -m recipes.unet_cgan.choose_codes WEIGHTS --pairs PAIRS --classifier NET0 \\
        --classifier NET1 [--strength fear=1.1]

Of each expression many codes of training pairs are tried on neutral faces of training people. The
half by which the nets see it best is left, less the quarter of these that is farthest from their
mean: extreme codes please nets and look odd. Kept are the first, and then always the one that is
farthest from all that are kept, so that variants differ. `--strength` scales what an expression
does at full intensity; what is not named stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.composite import face_mask
from expraug.faces.warp import resized
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from recipes.pairs.made import Pairs
from recipes.pairs.watching import expression_net
from recipes.unet_cgan.data import CodedPairs
from recipes.unet_cgan.rendering import render_small
from recipes.unet_cgan.trainer import SMALL

_TRIED, _FACES = 48, 12
_BETTER, _USUAL = 0.5, 0.75  # shares of the codes that are left


@torch.inference_mode()
def probabilities(
    model: UNetCGANSynthesizer,
    faces: Tensor,
    codes: Tensor,
    expression: Expression,
    nets: Sequence[Callable[[Tensor], Tensor]],
) -> Tensor:
    """Return the mean probability of the expression by each of (K, C) codes, (K,)."""
    number = model.expressions.index(expression)
    grey, mask = resized(faces, SMALL), face_mask(SMALL)
    category = torch.full((len(faces),), number)
    found = []
    for code in codes:
        maps = model.generator(faces, category, code.expand(len(faces), -1))
        maps = maps.scaled(model.strength[number].expand(len(faces)))
        made = torch.lerp(grey, render_small(grey, maps), mask)
        told = torch.stack([net(made).float().softmax(1)[:, number] for net in nets])
        found.append(told.mean())
    return torch.stack(found)


def spread(codes: Tensor, score: Tensor, count: int) -> Tensor:
    """Return so many of (K, C) codes: the best, then always the farthest from all chosen, among
    the better part without its extremes."""
    if not codes.std(0).any():  # there is but one
        return codes[:count]
    better = codes[score.argsort(descending=True)][: max(count, int(_BETTER * len(codes)))]
    away = (better - better.mean(0)).norm(dim=1)
    usual = away.argsort()[: max(count, int(_USUAL * len(better)))].sort().values
    better = better[usual]
    chosen = [0]
    while len(chosen) < count:
        distance = torch.cdist(better, better[chosen]).amin(1)
        chosen.append(int(distance.argmax()))
    return better[chosen]


def main(
    weights: Annotated[Path, typer.Argument(help="Folder; it is written again.")],
    pairs: Annotated[Path, typer.Option(help="That it was trained on.")],
    classifier: Annotated[
        list[Path], typer.Option(help="Folders of recipes.fer_classifier.train; several.")
    ],
    strength: Annotated[list[str] | None, typer.Option(help="As fear=1.1; several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder, if it is another.")] = None,
    seed: int = 0,
) -> None:
    model = Synthesizer.from_pretrained(weights)
    if not isinstance(model, UNetCGANSynthesizer):
        raise SystemExit(f"{weights} is no `unet_cgan`: only that has codes")
    model.eval().requires_grad_(False)
    for name, _, value in (entry.partition("=") for entry in strength or []):
        model.strength[model.expressions.index(Expression.parse(name))] = float(value)
    coded = CodedPairs(Pairs.load(pairs), model.codes.shape[2])
    nets = [expression_net(load_fer_classifier(f), model.expressions) for f in classifier]
    faces = coded.neutral_faces(False, _FACES)
    torch.manual_seed(seed)
    tried = coded.bank(_TRIED, seed)
    for number, expression in enumerate(model.expressions):
        codes = tried[int(expression)]
        score = probabilities(model, faces, codes, expression, nets)
        model.codes[number] = spread(codes, score, model.variants)
        kept = probabilities(model, faces, model.codes[number], expression, nets)
        print(f"{expression}: {float(score.mean()):.2f}, of those kept {float(kept.mean()):.2f}")
    model.save_pretrained(out or weights)


if __name__ == "__main__":
    typer.run(main)
