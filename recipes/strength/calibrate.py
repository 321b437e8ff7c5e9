"""Choose how far shape and light of each expression go at intensity 1.

    python -m recipes.strength.calibrate WEIGHTS DATA [--only sad --only fear]

WEIGHTS is a folder of any synthesizer that has a `strength`; it is changed. DATA and `--work` are
as `recipes.real_faces` takes them; only validation people of LFW and London are changed.

Chosen is what brings both families of classifiers to see the target as often as in real faces that
show it: of the recall ratio r of each counts min(r, 1 / r), and of both the product, so that one
that is far off is not made good by the other. Light says little to landmarks, so
these choose the shape first; then both choose the light, and among the next shapes. It goes no
further than where more faces than `--exaggerated` move further than 95 % of real ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from expraug.expressions import Expression
from expraug.synthesizer import Synthesizer
from recipes.strength.instrument import FAMILIES, Instrument, make, people_of

SHAPES = (0.5, 0.65, 0.8, 1.0, 1.15, 1.35)
"""Strengths of shape that are tried."""
BRIGHTEST, LIGHTS = 1.0, (0.5, 0.75, 1.0)
"""The strongest light, and shares of it that are tried: light that is stronger than what was
learned pleases nets and looks like patches."""
SAME = 0.02
"""Of the score, which no greater strength is worth."""


@dataclass(frozen=True)
class Tried:
    """A strength, and what it looks like.

    Args:
        shape, light: the strength.
        ratios: (2,) of the families of classifiers.
        exaggerated: share of faces that go further than 95 % of real faces.
    """

    shape: float
    light: float
    ratios: np.ndarray
    exaggerated: float

    def scores(self) -> np.ndarray:
        """Return how near the ratios are to 1, (2,) in [0, 1]."""
        near: np.ndarray = np.minimum(self.ratios, 1 / np.maximum(self.ratios, 1e-6))
        return near

    def row(self) -> dict[str, str]:
        """Return the figures, rounded, by name."""
        told = dict(zip(FAMILIES, self.ratios.tolist(), strict=True))
        figures = {"shape": self.shape, "light": self.light, **told}
        return {n: f"{v:.2f}" for n, v in (figures | {"exaggerated": self.exaggerated}).items()}


def choose(tried: Iterable[Tried], score: Callable[[Tried], float], exaggerated: float) -> Tried:
    """Return the first of those that score about as well as any within the limit; the first of all
    where none is."""
    every = list(tried)
    within = [t for t in every if t.exaggerated <= exaggerated]
    enough = max((score(t) for t in within), default=0.0) - SAME
    return next((t for t in within if score(t) >= enough), every[0])


@dataclass(frozen=True)
class Limits:
    """How far strengths may go.

    Args:
        exaggerated: share of the faces, at most, that go further than 95 % of real ones.
        brightest: the strongest light.
        largest: the strongest shape.
    """

    exaggerated: float = 0.1
    brightest: float = BRIGHTEST
    largest: float = SHAPES[-1]


def search(measure: Callable[[float, float], Tried], limits: Limits) -> Tried:
    """Return the best of the strengths that are tried."""
    measure = cache(measure)
    exaggerated, lights = limits.exaggerated, [limits.brightest * share for share in LIGHTS]
    allowed = [shape for shape in SHAPES if shape <= limits.largest]

    def both(tried: Tried) -> float:
        return float(tried.scores().prod())

    shapes = [measure(shape, lights[1]) for shape in allowed]
    first = choose(shapes, lambda t: float(t.scores()[1]), exaggerated)
    second = choose([measure(first.shape, light) for light in lights], both, exaggerated)
    at = allowed.index(second.shape)
    near = allowed[max(at - 1, 0) : at + 2]
    return choose([measure(shape, second.light) for shape in near], both, exaggerated)


def measured_by(
    instrument: Instrument,
    made: Callable[[float, float], Tensor],
    target: Expression,
    people: list[str],
) -> Callable[[float, float], Tried]:
    """Return what looks at the faces that are made at a strength."""
    gone = instrument.range_of(target)

    def measure(shape: float, light: float) -> Tried:
        seen = instrument.measure(made(shape, light), people)
        too_far = float((gone(seen.landmarks) > 1).mean())
        return Tried(shape, light, instrument.ratios(seen, target), too_far)

    return measure


def calibrate(
    model: Synthesizer,
    instrument: Instrument,
    limits: Limits,
    count: int,
    only: Sequence[Expression] = (),
) -> list[dict[str, str]]:
    """Set the strengths of a synthesizer, and return the figures behind them.

    Args:
        model: has a buffer `strength`, (E, 2), in the order of its expressions.
        instrument: see there.
        limits: see there.
        count: faces that each expression is made of.
        only: expressions that are calibrated; all if empty.
    """
    strength, lines = model.get_buffer("strength"), []
    for row, target in enumerate(model.expressions):
        if only and target not in only:
            continue
        sources = instrument.sources(target, count)

        def made(shape: float, light: float, row: int = row) -> Tensor:
            strength[row, 0], strength[row, 1] = shape, light
            return make(model, sources, model.expressions[row])  # noqa: B023

        measure = measured_by(instrument, made, target, people_of(sources))
        best = search(measure, limits)
        strength[row, 0], strength[row, 1] = best.shape, best.light
        lines.append({"": str(target)} | best.row())
        print(lines[-1], flush=True)
    return lines


def print_table(lines: Sequence[dict[str, str]]) -> None:
    """Print the figures behind the strengths."""
    table = Table(title="Strengths, chosen on validation people of LFW and London")
    for name in lines[0]:
        table.add_column(name)
    for line in lines:
        table.add_row(*line.values())
    Console(width=120).print(table)


def main(
    weights: Annotated[Path, typer.Argument(help="Folder of a synthesizer with a strength.")],
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    count: Annotated[int, typer.Option(help="Faces that each expression is made of.")] = 60,
    exaggerated: Annotated[float, typer.Option(help="Share of faces at most.")] = 0.1,
    brightest: Annotated[float, typer.Option(help="The strongest light.")] = BRIGHTEST,
    largest: Annotated[float, typer.Option(help="The strongest shape.")] = SHAPES[-1],
    only: Annotated[list[str] | None, typer.Option(help="Expressions; all if none.")] = None,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    out: Annotated[Path | None, typer.Option(help="Folder, if it is another.")] = None,
) -> None:
    model = Synthesizer.from_pretrained(weights)
    if "strength" not in dict(model.named_buffers()):
        raise SystemExit(f"{weights}: {model.name} has no strength that could be chosen")
    some = [Expression.parse(name) for name in only or []]
    model.eval().requires_grad_(False)
    limits = Limits(exaggerated, brightest, largest)
    print_table(calibrate(model, Instrument(data, work), limits, count, some))
    model.save_pretrained(out or weights)
    print(f"{out or weights}: {model.fingerprint}")


if __name__ == "__main__":
    typer.run(main)
