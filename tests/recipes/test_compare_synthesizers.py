"""The table of synthesizers."""

import math
from pathlib import Path

from expraug.evaluate import Estimate
from recipes.compare_synthesizers import (
    BEGIN,
    USE,
    Rows,
    expression_tables,
    rank_correlations,
    table,
    write,
)

EXPRESSIONS = ("happy", "sad", "fear", "angry", "surprise", "disgust")


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1, 7)


def rows(file: Path) -> Rows:
    found = Rows.read(file)
    for number, name in enumerate(("real faces", "transfer", "pixel")):
        figures = {("two-sided", ""): estimate(0.5 + number / 10)}
        for i, expression in enumerate(EXPRESSIONS):
            figures[USE, expression] = estimate(i + number)
            figures["recall", expression] = estimate(2 * i + 2 * number)
            figures["worse", expression] = estimate(-i - number if name != "real faces" else 50 + i)
        figures["recall", "fear"] = Estimate(math.nan, math.nan, math.nan, 0)
        found.add(name, figures)
    return found


def test_figures_come_back_from_the_file(tmp_path: Path) -> None:
    made = rows(tmp_path / "a" / "figures.csv")
    again = Rows.read(made.file)
    assert again.rows.keys() == made.rows.keys()
    assert again.rows["transfer"]["two-sided", ""] == made.rows["transfer"]["two-sided", ""]
    assert math.isnan(again.rows["pixel"]["recall", "fear"].value)
    assert table(again.rows) == table(made.rows)


def test_tables(tmp_path: Path) -> None:
    made = rows(tmp_path / "figures.csv").rows
    assert "| `transfer` | 0.600 [0.500, 0.700] |" in table(made)
    assert "| real faces | 0.500" in table(made)
    by_expression = expression_tables(made)
    assert "| recall | happy | sad | fear |" in by_expression
    assert "| `pixel` | 4.00 | 6.00 | – | 10.00 |" in by_expression


def test_ranks_are_of_synthesizers_alone(tmp_path: Path) -> None:
    lines = rank_correlations(rows(tmp_path / "figures.csv").rows).splitlines()
    assert lines[2] == f"| 1 {USE} | 1.00 | 1.00 | -1.00 |"
    assert lines[4].startswith("| 3 worse | -1.00 | -1.00 | 1.00 |")


def test_only_what_lies_between_the_marks_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    file.write_text("# Results\n\nBefore.\n")
    write(file, "first")
    file.write_text(file.read_text() + "\nAfter.\n")
    write(file, "second")
    text = file.read_text()
    assert text.startswith("# Results\n\nBefore.\n")
    assert text.rstrip().endswith("After.")
    assert "second" in text
    assert "first" not in text
    assert text.count(BEGIN) == 1
