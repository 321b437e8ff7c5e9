"""Choose the codes that are `fevgan`'s variants, and how strong each expression is.

    python -m recipes.fevgan.choose_codes WEIGHTS --pairs PAIRS --data DATA --classifier NET0 \\
        --classifier NET1 [--motion fear=1.1] [--light fear=1.2] [--out FOLDER]

Of each expression, codes of many examples are tried on neutral faces of training people. The half
is left in which nets see the expression as they do in real faces, neither less nor more, and of
that the codes that are most unlike each other. `--motion` and `--light` multiply what moves and
what gets lighter at full intensity; what is not named stays as it was. PAIRS are those that the
weights were trained on, DATA and `--faces` as `recipes.real_faces` takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.cluster import KMeans
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.composite import masked
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.onset import RHYTHM
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan.clips import HELD_OUT, Codes, held_out, neutral_rows, real_faces
from recipes.pairs.made import Pairs
from recipes.pairs.watching import expression_net

TRIED, FACES, REAL = 32, 8, 64
"""Codes of each expression, the faces that they are tried on, and real faces to compare with."""
LEFT = 0.5
"""Share of the tried codes."""


def spread_codes(codes: Tensor, count: int, seed: int) -> Tensor:
    """Return so many unlike ones of (N, C) codes, those first that are like most others."""
    own = codes.numpy()
    if not len(own):
        return torch.zeros(count, codes.shape[1])
    groups = KMeans(min(count, len(own)), n_init=4, random_state=seed).fit(own)
    sizes = np.bincount(groups.labels_)
    nearest = own[groups.transform(own).argmin(0)][np.argsort(-sizes)]
    return torch.from_numpy(np.resize(nearest, (count, own.shape[1]))).float()


@torch.inference_mode()
def probabilities(
    model: FEVGANSynthesizer,
    faces: Tensor,
    expression: Expression,
    nets: Sequence[Callable[[Tensor], Tensor]],
) -> Tensor:
    """Return the mean probability of the expression in each variant of the faces, (V,)."""
    found = []
    target, full = torch.full((len(faces),), int(expression)), torch.ones(len(faces))
    for variant in range(model.variants):
        made = model.synthesize(faces, target, full, variant=torch.full_like(target, variant))
        shown = masked(made).render(faces)[:, :1].clamp(0, 1)
        found.append(probability(shown, model.expressions.index(expression), nets))
    return torch.stack(found)


def probability(faces: Tensor, number: int, nets: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Return the mean probability of an expression in (B, 1, S, S) faces, a scalar."""
    return torch.stack([net(faces).float().softmax(1)[:, number] for net in nets]).mean()


def with_codes(model: FEVGANSynthesizer, codes: Tensor, **changes: object) -> FEVGANSynthesizer:
    """Return the same synthesizer with other codes, (E, V, C), and settings."""
    config = {**model.config, **changes, "variants": codes.shape[1]}
    made = FEVGANSynthesizer(**config)
    made.net.load_state_dict(model.net.state_dict())
    made.codes.copy_(codes)
    return made.eval().requires_grad_(False)


def factors(model: FEVGANSynthesizer, name: str, changes: Sequence[str]) -> list[float]:
    """Return the factors of a synthesizer, with those that "fear=1.1" names on top."""
    found = list(model.config[name])
    for entry in changes:
        name, _, value = entry.partition("=")
        expression = Expression.parse(name)
        if expression not in model.expressions:
            raise ValueError(f"{expression} is not among {', '.join(map(str, model.expressions))}")
        found[model.expressions.index(expression)] = float(value)
    return found


def main(
    weights: Annotated[Path, typer.Argument(help="Folder.")],
    pairs: Annotated[Path | None, typer.Option(help="Without, the codes stay.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the sets, for the codes.")] = None,
    classifier: Annotated[
        list[Path] | None, typer.Option(help="Folders of recipes.fer_classifier.train; several.")
    ] = None,
    motion: Annotated[list[str] | None, typer.Option(help="As fear=1.1; several.")] = None,
    light: Annotated[list[str] | None, typer.Option(help="As fear=1.1; several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; else that of the weights.")] = None,
    real_work: Annotated[Path, typer.Option("--faces", help="Of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    seed: int = 0,
) -> None:
    model = Synthesizer.from_pretrained(weights)
    if not isinstance(model, FEVGANSynthesizer):
        raise SystemExit(f"{weights} is no `fevgan`, which alone has these codes")
    changes = {
        name: factors(model, name, given or [])
        for name, given in (("motion", motion), ("light", light))
    }
    codes = model.codes
    if pairs is not None:
        if data is None or not classifier:
            raise SystemExit("codes are chosen by nets and real faces: add --classifier and --data")
        torch.manual_seed(seed)
        made = Pairs.load(pairs)
        rows = neutral_rows(made, model.expressions)
        maps, category = made.maps(rows), model.row[torch.from_numpy(made.target[rows])]
        learned = ~held_out(made, rows, HELD_OUT)
        length = model.net.noise - RHYTHM
        examples = Codes(maps, category, length, torch.from_numpy(learned))(maps, category)
        known = torch.from_numpy(learned)
        of_each = [examples[known & (category == n)] for n in range(len(model.expressions))]
        tried = torch.stack([spread_codes(own, TRIED, seed) for own in of_each])
        some = rows[learned][:: max(1, int(learned.sum()) // FACES)][:FACES]
        faces = made.faces(some).expand(-1, 3, -1, -1)
        nets = [expression_net(load_fer_classifier(f), model.expressions) for f in classifier]
        real = real_faces(data, real_work, model.expressions)
        trying, chosen = with_codes(model, tried, **changes), []
        for number, expression in enumerate(model.expressions):
            seen = probabilities(trying, faces, expression, nets)
            there = real[number][torch.randperm(len(real[number]))[:REAL]].float() / 255
            usual = probability(there, number, nets) if len(there) else seen.max()
            nearest = (seen - usual).abs().argsort()[: max(model.variants, int(LEFT * TRIED))]
            chosen.append(spread_codes(tried[number, nearest], model.variants, seed))
            told = {"all": seen.mean(), "what is left": seen[nearest].mean(), "real faces": usual}
            print(f"{expression}: " + ", ".join(f"{k} {float(v):.2f}" for k, v in told.items()))
        codes = torch.stack(chosen)
    with_codes(model, codes, **changes).save_pretrained(out or weights)


if __name__ == "__main__":
    typer.run(main)
