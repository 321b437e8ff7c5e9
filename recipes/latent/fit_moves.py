"""Teach a generator's shapes what expressions do to lids, brows and lips.

    python -m recipes.latent.fit_moves GENERATOR --pairs PAIRS --out GENERATOR_OF_MOVES

GENERATOR is what `recipes.latent.train_generator` wrote, a painted one, PAIRS what
`recipes.pairs.make_pairs` did. Nothing that it draws changes; the numbers of a shape that stood for
nothing stand for principal components of how expressions move landmarks.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.latent.pictures import Pictures
from recipes.latent.train_generator import read_nets
from recipes.pairs.made import Pairs
from recipes.pairs.moves import displaced

_PREFIX = "generator.pictures."


@torch.inference_mode()
def moves_of(pairs: Pairs) -> Tensor:
    """Return how the expressions move landmarks, (N, 478, 2)."""
    found = []
    for rows in np.array_split(np.arange(len(pairs)), -(-len(pairs) // 256)):
        landmarks = torch.from_numpy(pairs.mesh[pairs.source[rows]][..., :2]).float()
        found.append(displaced(landmarks, pairs.maps(rows)) - landmarks)
    return torch.cat(found)


def main(
    generator: Annotated[Path, typer.Argument(help="Folder of recipes.latent.train_generator.")],
    pairs: Annotated[Path, typer.Option(help="What recipes.pairs.make_pairs wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the new weights.")],
) -> None:
    drawing, _ = read_nets(generator)
    pictures = drawing.pictures
    if pictures is None:
        raise SystemExit(f"{generator} is not painted, so its shapes move no landmarks")
    before, now = pictures.fit_moves(moves_of(Pairs.load(pairs))).tolist()
    print(f"moves of landmarks that shapes cannot say: {before:.3f} before, {now:.3f} now")
    write(generator, pictures, out)


def write(generator: Path, pictures: Pictures, out: Path) -> None:
    """Write a generator's folder again, with other moves of landmarks."""
    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(generator / "model.safetensors")
    weights[_PREFIX + "marks"] = pictures.marks.contiguous()
    save_file(weights, out / "model.safetensors")
    if out.resolve() != generator.resolve():
        shutil.copy(generator / "config.json", out / "config.json")


if __name__ == "__main__":
    typer.run(main)
