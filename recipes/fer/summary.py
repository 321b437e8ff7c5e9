"""Print what `transfer` brings in each setting, as one Markdown table, from the CSVs of the tables.

    python -m recipes.fer.summary recipes/fer/tables_core.csv recipes/fer/tables_frozen.csv

Of the conditions with `transfer`, the best on the validation cut is shown. Its gains on test faces,
paired by seed, are over real faces alone and over more draws of the real rare faces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recipes.fer.conditions import CONDITIONS, NONE
from recipes.fer.fold_tensors import POOLED, VALIDATION
from recipes.fer.print_tables import GAINED, Runs, best_of, collect, gains, interval, percent
from recipes.fer.results import read_results

TESTS = (POOLED, "fer+")
"""The set's own test faces, and those of another set."""
CONTROLS = (NONE.name, "more draws 6/64")


def best_with(validation: Runs) -> str:
    """Return the condition with `transfer` of the highest accuracy and mean average precision
    together on the validation cut.

    Raises:
        ValueError: none was trained.
    """
    found = {
        name: runs
        for name, runs in validation.items()
        if CONDITIONS[name].extra == "transfer" and len(runs) > 1
    }
    if not found:
        raise ValueError("no condition with transfer was trained with several seeds")
    return best_of(found)


def line(setting: str, net: str, test: str, condition: str, tested: Runs) -> str:
    """Return a row: a condition, and its gains over each of the controls."""
    cells = [setting if test == POOLED else f"{setting} -> {test}", net, condition]
    for metric in GAINED:
        over = (interval(gains(tested, condition, control, metric)) for control in CONTROLS)
        cells.append("; ".join(percent(found, "+") for found in over))
    return f"| {' | '.join(cells)} |"


def main(
    results: Annotated[list[Path], typer.Argument(help="CSVs of tables and frozen.")],
) -> None:
    metrics = [metric.replace("_", " ").replace(" ap", " AP") for metric in GAINED]
    names = ["setting", "net", "condition", *metrics]
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for file in results:
        rows = read_results(file)
        validation = collect(rows, VALIDATION)
        for test in TESTS:
            for (setting, net), tested in collect(rows, test).items():
                print(line(setting, net, test, best_with(validation[setting, net]), tested))


if __name__ == "__main__":
    typer.run(main)
