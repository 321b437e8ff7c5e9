"""Print what a net takes real and synthetic faces for that it has not seen, by whose source they
are of.

    python -m recipes.fer.seen_as .gpu/tables --setting ferplus

The small net of the tables is trained on the real faces of one half of the training images and
asked about the other half: real faces of each class, the same faces made neutral, and neutral faces
made to show the class. What it still sees in a face that was made neutral is not the expression but
what goes with it: who, how turned, how cut.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import binomtest
from torch import Tensor

from expraug.expressions import Expression
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest
from recipes.fer.conditions import NONE
from recipes.fer.fold_tensors import read_fold
from recipes.fer.folds import SETTINGS
from recipes.fer.pack_tables import Pack
from recipes.fer.plan import NETS, QUARTER
from recipes.fer.training import Recipe, Run, predict, train_together
from recipes.splits import half_of_rows


def made(
    augmenter: ExpressionAugmenter, faces: np.ndarray, target: Expression, rng: np.random.Generator
) -> np.ndarray:
    """Return faces made to show an expression, (M, 48, 48) uint8; those refused are left out."""
    requests = [SynthesisRequest(target, 1.0, int(rng.integers(augmenter.variants))) for _ in faces]
    outcomes = augmenter(list(faces), requests)
    kept = [np.asarray(one.image) for one in outcomes if one.target is not None]
    return np.stack(kept) if kept else np.empty((0, *faces.shape[1:]), np.uint8)


def row(
    shown: Expression, what: str, said: Tensor, index: int, classes: tuple[Expression, ...]
) -> str:
    """Return a line of the table.

    Args:
        shown: the class that is asked for.
        what: the faces are.
        said: (M, E) probabilities.
        index: place of the class among them.
        classes: names of all.
    """
    named = said.argmax(1)
    count = int((named == index).sum())
    low, high = binomtest(count, len(said)).proportion_ci(method="wilson")
    others = torch.bincount(named[named != index], minlength=len(classes)) / len(said)
    top = ", ".join(f"{classes[int(i)]} {others[i]:.2f}" for i in others.topk(2).indices)
    own = f"{said[:, index].mean():.2f} | {count / len(said):.2f} [{low:.2f}, {high:.2f}]"
    return f"| {shown} | {what} | {len(said)} | {own} | {top} |"


def main(
    pack: Annotated[Path, typer.Argument(help="Folder of recipes.fer.pack_tables.")],
    setting: str = "ferplus",
    synthesizer: str = "transfer",
    count: Annotated[int, typer.Option(help="Faces of each class at most.")] = 200,
    steps: Annotated[int, typer.Option(help="Of training.")] = 1500,
    balance: Annotated[float, typer.Option(help="As in the tables.")] = 0.5,
) -> None:
    how, device = SETTINGS[setting], torch.device("cpu")
    fold = read_fold(how, pack, [], device)
    faces = Pack.load(pack / how.pack).train
    half = half_of_rows(len(faces.pixels))
    learned = torch.from_numpy(half[fold.rows.numpy()] == 0)
    samples = replace(fold.samples, real=fold.samples.real[learned[fold.samples.real]])
    recipe = Recipe(NETS[QUARTER], steps, 64, lr=4e-3, balance=balance)
    (net,) = train_together([Run(recipe, NONE, "", 0)], samples, device, half=True)
    rest = fold.rows.numpy()[~learned.numpy()]
    labels = faces.labels(how.scheme)[rest]
    augmenter = ExpressionAugmenter(synthesizer, device="cpu")
    rng = np.random.default_rng(0)

    def some(expression: Expression) -> np.ndarray:
        found: np.ndarray = faces.pixels[rng.permutation(rest[labels == int(expression)])[:count]]
        return found

    print("| class | faces | n | probability of it | taken for it | most often else |")
    print("|---|---|---|---|---|---|")
    for expression in how.classes:
        if expression is Expression.NEUTRAL:
            continue
        real = some(expression)
        asked = {"real": real, "made neutral": made(augmenter, real, Expression.NEUTRAL, rng)}
        asked["made of neutral"] = made(augmenter, some(Expression.NEUTRAL), expression, rng)
        for what, pixels in asked.items():
            if len(pixels):
                said = predict(net, torch.from_numpy(pixels), NETS[QUARTER].size, True, half=True)
                index = how.classes.index(expression)
                print(row(expression, what, said, index, how.classes), flush=True)


if __name__ == "__main__":
    typer.run(main)
