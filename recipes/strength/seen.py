"""How often both families of classifiers see what synthesizers make of people whom strengths were
not chosen on.

    python -m recipes.strength.seen DATA unet_cgan FOLDER [--skip 60] [--count 48]

Printed are, for each expression, recall ratios by pictures and by landmarks, and for each family
the mean over happy to angry of min(r, 1 / r). The faces are those of validation people of LFW that
come after the first `--skip`, which is to be at least the `--count` of
`recipes.strength.calibrate`. DATA and `--work` are as `recipes.real_faces` takes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from expraug import create_synthesizer
from expraug.expressions import Expression
from expraug.synthesizer import Synthesizer
from recipes.strength.instrument import Instrument, make, people_of

SIX = tuple(Expression)[1:7]
"""Happy to angry."""


def ratios_of(
    model: Synthesizer, instrument: Instrument, skip: int, count: int
) -> dict[Expression, np.ndarray]:
    """Return the recall ratios of both families for each expression, (2,) each."""
    found = {}
    for target in model.expressions:
        sources = instrument.sources(target, skip + count)
        sources = sources.take(np.arange(skip, len(sources)))
        seen = instrument.measure(make(model, sources, target), people_of(sources))
        found[target] = instrument.ratios(seen, target)
    return found


def two_sided(ratios: dict[Expression, np.ndarray]) -> np.ndarray:
    """Return the mean of six of min(r, 1 / r), (2,); what is not made counts as never seen."""
    six = np.stack([ratios.get(e, np.zeros(2)) for e in SIX])
    mean: np.ndarray = np.minimum(six, 1 / np.maximum(six, 1e-6)).mean(0)
    return mean


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    synthesizers: Annotated[list[str], typer.Argument(help="Names or folders.")],
    skip: Annotated[int, typer.Option(help="Faces that strengths were chosen on.")] = 60,
    count: Annotated[int, typer.Option(help="Faces that each expression is made of.")] = 48,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
) -> None:
    instrument = Instrument(data, work)
    table = Table("", "two-sided", *map(str, Expression), title="pictures / landmarks")
    for name in synthesizers:
        model = create_synthesizer(name).eval().requires_grad_(False)
        found = ratios_of(model, instrument, skip, count)
        told = ["/".join(f"{r:.2f}" for r in found[e]) if e in found else "" for e in Expression]
        table.add_row(name, "/".join(f"{r:.2f}" for r in two_sided(found)), *told)
        print(f"{name}: done", flush=True)
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
