"""Print what synthetic faces are taken for, beside real ones, by fits that saw neither.

    python -m recipes.fer.seen_as .gpu/tables --setting ferplus

The fits are those of `recipes.fer.frozen`, on real faces alone, of one half of the training faces.
They are asked about the real faces of the other half and about synthetics whose sources are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from expraug.expressions import Expression
from recipes.fer.conditions import NEUTRAL
from recipes.fer.fold_tensors import Fold, read_fold
from recipes.fer.folds import SETTINGS
from recipes.fer.frozen import Fits, even, features, fit
from recipes.fer.pack_tables import Pack, load_synthetics
from recipes.splits import half_of_rows

POOLS = ("transfer", "transfer, natural", f"transfer{NEUTRAL}", "own")


def asked(fold: Fold, seen: Tensor, halves: Tensor, balance: float, decay: float) -> Tensor:
    """Return what the fit of the other half says of each sample, (N, E).

    Args:
        fold: whose samples.
        seen: (N, D) their features, of `Fits`.
        halves: (N,) of each, that of its source for a synthetic.
        balance, decay: of the fit.
    """
    samples = fold.samples
    said = torch.zeros(len(seen), samples.classes)
    for half in (0, 1):
        rows = samples.real[halves[samples.real] != half]
        labels = samples.labels[rows]
        targets = F.one_hot(labels, samples.classes).float()
        start = torch.zeros(seen.shape[1], samples.classes)
        found = fit(seen[rows], targets, even(labels, balance), decay, start)
        of_half = halves == half
        said[of_half] = (seen[of_half] @ found).softmax(1)
    return said


def main(
    pack: Annotated[Path, typer.Argument(help="Folder of recipes.fer.pack_tables.")],
    setting: str = "ferplus",
    synthetics: Annotated[
        Path | None, typer.Option(help="Of recipes.fer.make_synthetics, if not packed.")
    ] = None,
    kept: Annotated[Path, typer.Option(help="Of recipes.fer.frozen.")] = Path("work/fer/seen.npz"),
    balance: float = 0.0,
    decay: float = 0.01,
) -> None:
    how = SETTINGS[setting]
    folder = synthetics or pack
    fold = read_fold(how, pack, [folder], torch.device("cpu"))
    made = load_synthetics(folder, f"{setting}-transfer")
    if made is None:
        raise typer.BadParameter(f"{folder} has no {setting}-transfer.npz: make_synthetics first")
    faces = Pack.load(pack / how.pack)
    half = torch.from_numpy(half_of_rows(len(faces.train.pixels)))
    rows = fold.rows
    halves = torch.cat([half[rows], half[torch.from_numpy(made.source)]])
    fits = Fits(fold, {"": features(fold.samples.pixels[: len(halves)], None, kept)})
    said = asked(fold, fits.seen[""], halves, balance, decay)
    print("| shown | faces | n | probability of it | taken for it | most often else |")
    print("|---|---|---|---|---|---|")
    for expression in how.rare:
        index = how.classes.index(expression)
        pools = {"real": fold.samples.real}
        pools |= {name: fold.samples.pools[name] for name in POOLS if name in fold.samples.pools}
        for name, pool in pools.items():
            rows = pool[(fold.samples.labels[pool] == index) & (pool < len(said))]
            if len(rows):
                print(row(expression, name, said[rows], index, how.classes))


def row(
    shown: Expression, name: str, said: Tensor, index: int, classes: tuple[Expression, ...]
) -> str:
    """Return a line of the table."""
    shares = torch.bincount(said.argmax(1), minlength=len(classes)) / len(said)
    others = shares.clone()
    others[index] = 0
    top = ", ".join(f"{classes[int(i)]} {others[i]:.2f}" for i in others.topk(2).indices)
    own = f"{said[:, index].mean():.2f} | {shares[index]:.2f}"
    return f"| {shown} | {name} | {len(said)} | {own} | {top} |"


if __name__ == "__main__":
    typer.run(main)
