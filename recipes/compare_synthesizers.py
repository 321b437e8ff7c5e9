"""Measure all synthesizers, real faces and copies with the same instrument, and print the table.

    python -m recipes.compare_synthesizers --data LFW.parquet --data LONDON.parquet \\
        --reference FER2013/validation.parquet --csv docs/synthesizers.csv --out docs/results.md

A row is a synthesizer, "real faces" (some people's, compared with other people's) or "copies" of
the sources. What was measured is kept in the CSV file at once, one line per figure and expression,
so that a stopped run goes on where it was; delete the lines of a row to measure it again. The
tables are written between two marks in the file of `--out`, whatever stands around them.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import spearmanr

from expraug.evaluate import Context, Estimate, Result, build_context, progress_bar, run_measures
from expraug.evaluate.controls import MEASURABLE, copies, real_faces
from expraug.evaluate.evaluation import choose_measures
from expraug.evaluate.result import Headline
from expraug.faces.detect import create_detector
from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS
from expraug.pipeline.memo import MemoizedDetector
from expraug.synthesizer import list_synthesizers

CONTROLS = {"real faces": real_faces, "copies": copies}
COLUMNS = ("row", "figure", "expression", "value", "low", "high", "n")
BEGIN, END = "<!-- begin: compare_synthesizers -->", "<!-- end: compare_synthesizers -->"
USE = "use, synthetic/real"
"""The figure that the others are to predict: what a net learns from synthetics."""
LEFT_OUT = ("throughput", "examples", "subgroups")
"""Measures that say nothing about how good the faces are, or say it again."""


@dataclass
class Rows:
    """The figures of every row, in a CSV file."""

    file: Path
    rows: dict[str, Headline]

    @classmethod
    def read(cls, file: Path) -> Rows:
        """Return what a file holds; nothing if it is not there."""
        rows: dict[str, Headline] = {}
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                for line in csv.DictReader(lines):
                    value, low, high = (
                        float(line[k]) if line[k] else math.nan for k in ("value", "low", "high")
                    )
                    found = Estimate(value, low, high, int(line["n"]))
                    rows.setdefault(line["row"], {})[line["figure"], line["expression"]] = found
        return cls(file, rows)

    def add(self, row: str, figures: Headline) -> None:
        """Keep the figures of a row, also in the file."""
        self.rows[row] = figures
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(COLUMNS)
            for name, of_row in self.rows.items():
                for (figure, expression), e in of_row.items():
                    numbers = (
                        "" if math.isnan(x) else f"{x:.4f}" for x in (e.value, e.low, e.high)
                    )
                    writer.writerow([name, figure, expression, *numbers, e.n])
        part.replace(self.file)


def headline(results: Mapping[str, Result]) -> Headline:
    """Return the figures of all measures that stand in the table."""
    found: Headline = {}
    for result in results.values():
        found |= result.headline()
    return found


def table(rows: Mapping[str, Headline]) -> str:
    """Return the table of all expressions together: a line per row, a column per figure."""
    columns = [f for f, e in _keys(rows) if not e]
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for row, figures in rows.items():
        cells = [str(figures.get((column, ""), "–")) for column in columns]
        lines.append(f"| {_named(row)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def expression_tables(rows: Mapping[str, Headline]) -> str:
    """Return a table per figure that is known by expression: a column per expression."""
    keys = _keys(rows)
    parts = []
    for figure in dict.fromkeys(f for f, e in keys if e):
        expressions = [e for f, e in keys if f == figure and e]
        lines = [f"| {figure} | {' | '.join(expressions)} |", "|---|" + "---|" * len(expressions)]
        for row, figures in rows.items():
            there = [figures.get((figure, e)) for e in expressions]
            if any(there):
                cells = [
                    "–" if t is None or math.isnan(t.value) else f"{t.value:.2f}" for t in there
                ]
                lines.append(f"| {_named(row)} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def rank_correlations(rows: Mapping[str, Headline]) -> str:
    """Return a table of Spearman's rank correlations between figures.

    Over all pairs of synthesizer and expression that both figures are known of; controls are left
    out.
    """
    own = {row: figures for row, figures in rows.items() if row not in CONTROLS}
    figures = list(dict.fromkeys(f for f, e in _keys(own) if e))
    if USE in figures:
        figures = [USE, *(f for f in figures if f != USE)]
    lines = [f"| | {' | '.join(map(str, range(1, len(figures) + 1)))} |"]
    lines.append("|---|" + "---|" * len(figures))
    for number, first in enumerate(figures, 1):
        cells = [_correlation(own, first, second) for second in figures]
        lines.append(f"| {number} {first} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _correlation(rows: Mapping[str, Headline], first: str, second: str) -> str:
    pairs = [
        (figures[first, e].value, figures[second, e].value)
        for figures in rows.values()
        for f, e in figures
        if f == first and e and (second, e) in figures
    ]
    known = np.array([p for p in pairs if all(map(math.isfinite, p))]).reshape(-1, 2)
    if len(known) < 5 or (np.ptp(known, axis=0) == 0).any():
        return "–"
    return f"{spearmanr(known[:, 0], known[:, 1]).statistic:.2f}"


def _keys(rows: Mapping[str, Headline]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(key for figures in rows.values() for key in figures))


def _named(row: str) -> str:
    return row if row in CONTROLS else f"`{row}`"


def write(out: Path, text: str) -> None:
    """Write between the marks of a file; they are put at its end if it has none."""
    whole = out.read_text(encoding="utf-8") if out.is_file() else ""
    if BEGIN not in whole:
        whole += f"\n{BEGIN}\n{END}\n"
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    out.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def measured(context: Context, control: str | None) -> dict[str, Result]:
    """Run all measures that are of use on a context, or on one of its controls."""
    names = [m.name for m in choose_measures(None) if m.name not in LEFT_OUT]
    if control is not None:
        context = CONTROLS[control](context)
        names = [name for name in names if name in MEASURABLE]
    results = run_measures(context, choose_measures(names))
    for name, reason in context.skipped.items():
        print(f"  not measured: {name}: {reason}", flush=True)
    if context.stopped:
        raise KeyboardInterrupt
    return results


def main(
    data: Annotated[list[Path], typer.Option(help="Set whose people nobody was trained on.")],
    reference: Annotated[Path, typer.Option(help="Real faces of rare classes, as crops.")],
    csv_file: Annotated[Path, typer.Option("--csv", help="Keeps the figures.")],
    out: Annotated[Path | None, typer.Option(help="File to write the tables into.")] = None,
    synthesizer: Annotated[list[str] | None, typer.Option(help="Only these; else all.")] = None,
    classifier: Annotated[list[str] | None, typer.Option(help="Further FER classifiers.")] = None,
    limit: Annotated[int, typer.Option(help="Faces per expression.")] = 60,
) -> None:
    rows = Rows.read(csv_file)
    names: Sequence[str] = synthesizer or list_synthesizers(pretrained=True)
    detector = MemoizedDetector(create_detector("crop"))
    missing = [name for name in (*CONTROLS, *names) if name not in rows.rows]
    for name in missing:
        print(f"{name} ({missing.index(name) + 1} of {len(missing)})", flush=True)
        start = time.time()
        with progress_bar() as progress:
            context = build_context(
                names[0] if name in CONTROLS else name,
                data,
                reference=reference,
                alignment=detector,
                classifiers=(*EMBEDDED_CLASSIFIERS, *(classifier or ())),
                limit=limit,
                progress=progress,
            )
            results = measured(context, name if name in CONTROLS else None)
        rows.add(name, headline(results))
        print(f"  {time.time() - start:.0f} s", flush=True)
    text = "\n\n".join(
        [
            table(rows.rows),
            expression_tables(rows.rows),
            "Rank correlations (Spearman) over all pairs of synthesizer and expression:",
            rank_correlations(rows.rows),
        ]
    )
    print(text)
    if out is not None:
        write(out, text)


if __name__ == "__main__":
    typer.run(main)
