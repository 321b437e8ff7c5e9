"""Choose the codes that are `fevgan`'s variants.

    python -m recipes.fevgan.choose_codes WEIGHTS DATA --pairs PAIRS

Tried are codes of unlike examples of each expression: the middles of so many groups of them. PAIRS
are those that the weights were trained on, DATA and `--work` as `recipes.real_faces` takes them.
`recipes.strength.codes` says which codes are chosen; how strong each expression is, chooses
`recipes.strength.calibrate` afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.cluster import KMeans
from torch import Tensor

from expraug.networks.onset import RHYTHM
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan.clips import HELD_OUT, Codes, held_out, neutral_rows
from recipes.pairs.made import Pairs
from recipes.strength.codes import TRIED_PER_CODE, choose_codes
from recipes.strength.instrument import Instrument


def spread_codes(codes: Tensor, count: int, seed: int) -> Tensor:
    """Return so many unlike ones of (N, C) codes, those first that are like most others."""
    own = codes.numpy()
    if not len(own):
        return torch.zeros(count, codes.shape[1])
    groups = KMeans(min(count, len(own)), n_init=4, random_state=seed).fit(own)
    sizes = np.bincount(groups.labels_)
    nearest = own[groups.transform(own).argmin(0)][np.argsort(-sizes)]
    return torch.from_numpy(np.resize(nearest, (count, own.shape[1]))).float()


def codes_of_examples(model: FEVGANSynthesizer, pairs: Pairs, count: int, seed: int) -> Tensor:
    """Return so many unlike codes of each expression, (E, count, C), of examples that training
    saw."""
    rows = neutral_rows(pairs, model.expressions)
    maps, category = pairs.maps(rows), model.row[torch.from_numpy(pairs.target[rows])]
    learned = torch.from_numpy(~held_out(pairs, rows, HELD_OUT))
    codes = Codes(maps, category, model.net.noise - RHYTHM, learned)(maps, category)
    of_each = [codes[learned & (category == n)] for n in range(len(model.expressions))]
    return torch.stack([spread_codes(own, count, seed) for own in of_each])


def main(
    weights: Annotated[Path, typer.Argument(help="Folder; it is written again.")],
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    pairs: Annotated[Path, typer.Option(help="That it was trained on.")],
    count: Annotated[int, typer.Option(help="Faces that each code is tried on.")] = 8,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    out: Annotated[Path | None, typer.Option(help="Folder, if it is another.")] = None,
    seed: int = 0,
) -> None:
    model = Synthesizer.from_pretrained(weights)
    if not isinstance(model, FEVGANSynthesizer):
        raise SystemExit(f"{weights} is no `fevgan`, which alone has codes like these")
    model.eval().requires_grad_(False)
    tried = codes_of_examples(model, Pairs.load(pairs), TRIED_PER_CODE * model.variants, seed)
    choose_codes(model, tried, Instrument(data, work), count)
    model.save_pretrained(out or weights)


if __name__ == "__main__":
    typer.run(main)
