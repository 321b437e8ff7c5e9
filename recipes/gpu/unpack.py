"""Put what came back from a machine with a GPU where it belongs.

    python -m recipes.gpu.unpack FOLDER [--weights work/gpu]

Figures of speed go to `docs/throughput.csv` and `docs/results.md`, tables to `recipes/fer/`,
trained weights into a folder of their own: whether they replace embedded ones is decided on both,
by the command that is told.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

REPOSITORY = Path(__file__).parents[2]
SPEED, TABLES = "throughput.csv", "tables.csv"
BEGIN, END = "<!-- begin: throughput -->", "<!-- end: throughput -->"
_HEAD = """## Speed on a card

```
python -m recipes.benchmarks.throughput --device cuda --out docs/throughput.csv
```

"""
_COMPARE = "compare them (python -m recipes.compare_synthesizers {into} {name})"
_HOW_TO_JUDGE = {
    "mouth_painter": "see the sheet there, and how well its mouths are told from photographs "
    "(python -m recipes.mouth_painter.compare DATA --weights {into} --out SHEET.png)",
}
_NOT_FACES = "device"  # rows by it tell what the device itself can do


def speed_table(rows: Sequence[dict[str, str]]) -> str:
    """Return the rows of `recipes.benchmarks.throughput` as a table, with the device's own rates.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("there are no figures: the run ended before the first")
    rates = {row["step"]: float(row["per_second"]) for row in rows if row["by"] == _NOT_FACES}
    known = [f"{step.split(',')[0]} {rate:,.4g} {step[-2:]}/s" for step, rate in rates.items()]
    faces = [row for row in rows if row["by"] != _NOT_FACES]
    columns = list(dict.fromkeys((int(r["batch_asked"]), int(r["pixels"])) for r in faces))
    lines = [
        f"{rows[0]['device']}, faces per second, nothing cached; in brackets the shares of the "
        f"device's own rates that operations reach, of copying and of matrix products "
        f"({', '.join(known)}).",
        "",
        "| step | by | precision | "
        + " | ".join(f"{pixels} px, batch {batch}" for batch, pixels in columns)
        + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for about in dict.fromkeys((r["step"], r["by"], r["precision"]) for r in faces):
        cells = []
        for batch, pixels in columns:
            of = [
                r
                for r in faces
                if (r["step"], r["by"], r["precision"]) == about
                and (int(r["batch_asked"]), int(r["pixels"])) == (batch, pixels)
            ]
            cells.append(_cell(of[-1]) if of else "")
        lines.append(f"| {' | '.join([*about, *cells])} |")
    return "\n".join(lines)


def _cell(row: dict[str, str]) -> str:
    if row["note"] != "ok":
        return row["note"].replace("|", "/")
    shares = (f"{float(row[k]):.0%}" for k in ("copy_share", "matrix_share"))
    return f"{float(row['per_second']):,.0f} ({', '.join(shares)})"


def write_section(page: Path, text: str) -> None:
    """Put a table between its marks on a page; a page without marks gets them at its end."""
    whole = page.read_text(encoding="utf-8")
    if BEGIN not in whole:
        whole += f"\n{_HEAD}{BEGIN}\n{END}\n"
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def unpack(folder: Path, weights: Path, repository: Path = REPOSITORY) -> list[str]:
    """Put results where they belong.

    Args:
        folder: what came back.
        weights: where trained weights go.
        repository: whose docs and recipes are changed.

    Returns:
        What was done and is to be done, a line each.
    """
    told = []
    if (speed := folder / SPEED).is_file():
        with speed.open(newline="") as file:
            rows = list(csv.DictReader(file))
        write_section(repository / "docs" / "results.md", speed_table(rows))
        shutil.copyfile(speed, repository / "docs" / SPEED)
        failed = [f"{r['step']}, {r['by']}: {r['note']}" for r in rows if r["note"] != "ok"]
        told += [f"{len(rows)} figures of speed in docs/{SPEED} and docs/results.md", *failed]
    if (tables := folder / TABLES).is_file():
        shutil.copyfile(tables, repository / "recipes" / "fer" / TABLES)
        told.append(f"tables in recipes/fer/{TABLES}")
    for archive in sorted(folder.glob("*.zip")):
        name, into = archive.stem, weights / archive.stem
        shutil.unpack_archive(archive, into)
        how = _HOW_TO_JUDGE.get(name, _COMPARE).format(into=into, name=name)
        told.append(f"{name} in {into}: {how}, before it replaces the embedded one")
    return told or [f"{folder} holds nothing that is known here"]


def main(
    folder: Annotated[Path, typer.Argument(help="What came back.")],
    weights: Annotated[Path, typer.Option(help="Where trained weights go.")] = Path("work/gpu"),
) -> None:
    print("\n".join(unpack(folder, weights)))


if __name__ == "__main__":
    typer.run(main)
