"""Fit `pixel` from what `recipes.pairs.make_pairs` wrote, and from photographs of London people.

    python -m recipes.pixel.fit DATA --pairs work/pairs --out expraug/weights/pixel

Everything is a ridge regression in closed form, for each target over all that the sources show:
displacements of landmarks on the shape of the source, changes of log luminance on the log
luminance of the same pixel. A mean over many faces is fainter than each of them, but steadier, too:
how far shape and light go is chosen as `recipes.strength.calibrate` does. `--held-out` prints what
is explained of people left out. DATA and `--work` are as `recipes.real_faces` takes them; but for
the strength only training people are used.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.pixel import PixelSynthesizer
from expraug.synthesizers.transfer import TransferSynthesizer
from recipes.pairs.made import Pairs
from recipes.pixel.examples import Examples, MeanFace, both_ways, of_pairs, of_photographs
from recipes.pixel.maps import PixelFit
from recipes.real_faces import FILES, LONDON, extract
from recipes.strength.calibrate import Limits, measured_by, print_table, search
from recipes.strength.instrument import Instrument, make, people_of
from recipes.transfer.deviation import assign
from recipes.transfer.expression_readings import STEADY, STEADY_WEIGHTS, ridge
from recipes.transfer.mesh import drawn_mesh

COMPONENTS, AXES, SIDE = 24, 32, 80
SHAPE_PENALTY = 30.0
"""For components of unit variance and weights of about 1 per pair."""
PENALTY, POOLING = 5.0, 1.0
"""Of the maps; pixels of them."""
PHOTOGRAPHS = 3.0
"""Weight of a pair of London's photographs: there are few, but they are real. With ten, smiles of
half the strength come out, as London's are."""
FEWEST, ENOUGH = 20, 3
"""Pairs from which a direction is learned, and directions from which all others to the target
follow: displacements are linear in what is shown."""


def mean_face(side: int = SIDE) -> MeanFace:
    """Return the mean face of `transfer`, whose mouth and eyes are open, so that all is seen."""
    teacher = Synthesizer.from_pretrained("transfer")
    assert isinstance(teacher, TransferSynthesizer)
    steady = torch.zeros(len(teacher.reference), dtype=torch.float64)
    steady[list(STEADY)] = torch.tensor(STEADY_WEIGHTS, dtype=torch.float64)
    return MeanFace(teacher.reference.double(), steady, side)


def components(laid: Tensor, mesh: Tensor, count: int) -> Tensor:
    """Return the principal components of shapes, (956, count), of unit variance."""
    shapes = (laid - mesh).flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(shapes.T))
    basis: Tensor = vectors[:, -count:].flip(1) / values[-count:].flip(0).sqrt()
    return basis


def features(laid: Tensor, mesh: Tensor, basis: Tensor) -> Tensor:
    """Return what displacements are linear in, (N, 1 + K)."""
    shape = (laid - mesh).flatten(1) @ basis
    return torch.cat([torch.ones_like(shape[:, :1]), shape], 1)


def fit_shape(
    examples: Examples, face: MeanFace, targets: list[Expression], penalty: float = SHAPE_PENALTY
) -> tuple[Tensor, Tensor, Tensor]:
    """Return basis (956, K), displacement (T, 1 + K, A) and axes (A, 956)."""
    basis = components(examples.laid, face.mesh, COMPONENTS)
    x = features(examples.laid, face.mesh, basis)
    y = (examples.moved - examples.laid).flatten(1)
    axes = torch.linalg.eigh(y.T @ y / len(y))[1][:, -AXES:].flip(1).T
    found = []
    for target in targets:
        rows = examples.target == int(target)
        weight = examples.weight[rows].double()
        found.append(ridge(x[rows], y[rows] @ axes.T, weight, penalty))
    return basis, torch.stack(found), axes


def fit_light(
    examples: Examples,
    side: int,
    targets: list[Expression],
    penalty: float = PENALTY,
    pooling: float = POOLING,
) -> tuple[Tensor, Tensor]:
    """Return weight and bias, (T, side, side) each."""
    found = []
    for target in targets:
        sums = PixelFit(side)
        rows = (examples.target == int(target)).nonzero()[:, 0]
        for part in rows.split(1000):
            sums.add(examples.light[part], examples.lightening[part], examples.weight[part])
        found.append(sums.solve(penalty, pooling))
    weight, bias = (torch.stack(x) for x in zip(*found, strict=True))
    return weight, bias


def directions(examples: Examples) -> dict[Expression, list[str]]:
    """Return, for each target that can be learned, what it can be made of."""
    found = {}
    for target in Expression:
        shown = torch.bincount(examples.shown[examples.target == int(target)], minlength=8)
        others = [e for e in Expression if e != target]
        fitted = [e for e in others if shown[int(e)] >= FEWEST]
        if fitted:
            found[target] = [str(e) for e in (others if len(fitted) >= ENOUGH else fitted)]
    return found


def fit(examples: Examples, face: MeanFace) -> PixelSynthesizer:
    """Return the synthesizer that these examples teach, unstrengthened."""
    sources = directions(examples)
    targets = list(sources)
    basis, displacement, axes = fit_shape(examples, face, targets)
    weight, bias = fit_light(examples, face.side, targets)
    share = examples.weight * examples.opened
    interior = [
        torch.einsum("n,nij->ij", share[rows], examples.interior[rows]) / share[rows].sum().clamp(1)
        for rows in (examples.target == int(t) for t in targets)
    ]
    mesh = drawn_mesh(face.mesh.numpy())
    mesh["sample_place"] = mesh.pop("sample_texture")
    model = PixelSynthesizer(
        {str(t): names for t, names in sources.items()},
        triangles=len(mesh["triangles"]),
        samples=len(mesh["sample_triangle"]),
        components=COMPONENTS,
        axes=AXES,
        map_side=face.side,
    )
    values: dict[str, Tensor | np.ndarray] = {
        "weight": weight[:, None],
        "bias": bias[:, None],
        "rest": face.mesh,
        "steady": face.steady,
        "basis": basis,
        "displacement": displacement,
        "axes": axes,
        "interior": torch.stack(interior),
    }
    for name, value in (values | mesh).items():
        assign(model, name, np.asarray(value))
    return model.eval().requires_grad_(False)


def strengthen(
    model: PixelSynthesizer,
    examples: Examples,
    face: MeanFace,
    strength: dict[Expression, tuple[float, float]],
) -> None:
    """Multiply what becomes of the mean neutral face (for neutral as a target, of the mean face
    that it was learned from); that others differ in what is taken away from them stays."""
    for row, target in enumerate(model.expressions):
        shape, light = strength.get(target, (1.0, 1.0))
        rows = examples.target == int(target)
        if target is not Expression.NEUTRAL:
            rows &= examples.shown == int(Expression.NEUTRAL)
        if not rows.any():
            continue
        given = features(examples.laid[rows], face.mesh, model.basis.double()).mean(0).float()
        model.displacement[row, 0] += (shape - 1) * (given @ model.displacement[row])
        change = model.weight[row, 0] * examples.light[rows].float().mean(0) + model.bias[row, 0]
        model.bias[row, 0] += (light - 1) * change


def calibrated(
    plain: PixelSynthesizer,
    examples: Examples,
    face: MeanFace,
    instrument: Instrument,
    limits: Limits,
    count: int,
) -> PixelSynthesizer:
    """Return a synthesizer with the strengths that are best; arguments as `calibrate` of
    `recipes.strength.calibrate` takes them."""
    chosen, lines = {}, []
    for target in plain.expressions:
        sources = instrument.sources(target, count)

        def made(shape: float, light: float, target: Expression = target) -> Tensor:
            model = copy.deepcopy(plain)
            strengthen(model, examples, face, {target: (shape, light)})
            return make(model, sources, target)  # noqa: B023

        best = search(measured_by(instrument, made, target, people_of(sources)), limits)
        chosen[target] = best.shape, best.light
        lines.append({"": str(target)} | best.row())
        print(lines[-1], flush=True)
    print_table(lines)
    strengthen(plain, examples, face, chosen)
    return plain


def explained(examples: Examples, face: MeanFace, folds: int = 5) -> None:
    """Print the share of the changes that is explained in people left out."""
    for name, penalties in (("shape", (10.0, 30.0, 100.0)), ("light", (5.0, 20.0, 80.0))):
        for penalty in penalties:
            kept = examples.person % folds != 0
            left = examples.take(~kept)
            taught = both_ways(examples.take(kept), face)
            targets = [e for e in Expression if (left.target == int(e)).any()]
            if name == "shape":
                basis, weights, axes = fit_shape(taught, face, targets, penalty)
                x = features(left.laid, face.mesh, basis)
            else:
                weight, bias = fit_light(taught, face.side, targets, penalty)
            told = []
            for row, target in enumerate(targets):
                rows = left.target == int(target)
                if name == "shape":
                    y = (left.moved - left.laid)[rows].flatten(1)
                    guess = x[rows] @ weights[row] @ axes
                else:
                    y = left.lightening[rows].float()
                    guess = weight[row] * left.light[rows].float() + bias[row]
                r2 = 1 - (y - guess).square().mean() / y.square().mean()
                told.append(f"{target} {float(r2):.3f}")
            print(f"{name}, penalty {penalty}: {', '.join(told)}")


def read(data: Path, pairs: list[Path], work: Path, photographs: float, face: MeanFace) -> Examples:
    """Return the examples to learn from; arguments as the command line names them."""
    parts = [of_pairs(Pairs.load(folder), face) for folder in pairs]
    if photographs:
        london = extract(LONDON, data / FILES[LONDON][0], work)
        real = of_photographs(london.take(np.flatnonzero(london.split == "train")), face)
        real.weight *= photographs
        parts.append(real)
    return Examples.joined(parts)


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    pairs: Annotated[list[Path], typer.Option(help="What recipes.pairs.make_pairs wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder for weights and config.")] = None,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    photographs: Annotated[float, typer.Option(help="Weight of a pair of them.")] = PHOTOGRAPHS,
    count: Annotated[int, typer.Option(help="Faces that strengths are chosen on.")] = 60,
    exaggerated: Annotated[float, typer.Option(help="Share of them at most.")] = 0.1,
    brightest: Annotated[float, typer.Option(help="The strongest light.")] = 1.7,
    held_out: bool = False,
) -> None:
    face = mean_face()
    examples = read(data, pairs, work, photographs, face)
    print(f"{len(examples)} pairs", flush=True)
    if held_out:
        explained(examples, face)
    if out:
        examples = both_ways(examples, face)
        plain = fit(examples, face)
        plain.save_pretrained(out)  # in case what follows is broken off
        model = calibrated(
            plain, examples, face, Instrument(data, work), Limits(exaggerated, brightest), count
        )
        model.save_pretrained(out)
        print(f"{out}: {PixelSynthesizer.from_pretrained(out).fingerprint}")


if __name__ == "__main__":
    typer.run(main)
