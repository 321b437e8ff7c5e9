"""What an evaluation found: as JSON, as a printed table, as an HTML page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from expraug.evaluate.result import COLUMNS, Line, Result, named_once


@dataclass
class Evaluation:
    """All figures of one synthesizer on one set of people.

    Args:
        synthesizer: its fingerprint.
        data, reference: names of the sets; the latter "" if there was none.
        split: whose faces were used.
        detector: fingerprint of what found the faces of the data.
        people, faces, lost: number of people, of faces by expression, of lost images by reason.
        size: side of the aligned faces that everything was measured on, in pixels.
        version: of expraug.
        results: by name of the measure, what it found.
        skipped: what was not measured, and why.
        stopped: whether the user stopped it; then `results` holds what was measured by then.
    """

    synthesizer: str
    data: str
    reference: str
    split: str
    detector: str
    people: int
    faces: dict[str, int]
    lost: dict[str, int]
    size: int
    version: str
    results: dict[str, Result]
    skipped: dict[str, str]
    stopped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, in what JSON can say; nan becomes None."""
        values = {name: value for name, value in vars(self).items() if name != "results"}
        results = {name: result.to_dict() for name, result in self.results.items()}
        values["measures"] = {name: figures for name, figures in results.items() if figures}
        finite: dict[str, Any] = _finite(values)
        return finite

    def to_json(self, path: str | Path | None = None) -> str:
        """Return `to_dict` as JSON, and write it to a file if one is named."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_html(self, path: str | Path) -> None:
        """Write one HTML file with the table and sheets of faces; it needs no other file."""
        from expraug.evaluate.page import write_page

        write_page(self, Path(path))

    def table(self, width: int = 120) -> Table:
        """Return the table, to be printed by rich.

        Args:
            width: of what it is printed on, in characters. Below 100, what stands beside a value
                stands under it.
        """
        narrow = width < 100
        table = Table(title=self.title(), caption=self.caption(), padding=(0, 0 if narrow else 1))
        shown = [column for column in COLUMNS if not (narrow and column == "beside")]
        for column in shown:
            side: Literal["left", "right"] = "right" if column == "n" else "left"
            most = {"measure": width // 4, "expression": 16}.get(column)
            folds = narrow or column in ("measure", "expression", "beside")
            table.add_column(
                column, justify=side, overflow="fold", no_wrap=not folds, max_width=most
            )
        for line in named_once(self.lines()):
            if line.measure:
                table.add_section()
            if narrow:
                value = "\n".join(filter(None, (line.value, line.beside)))
                line = line._replace(value=value)
            table.add_row(*(Text(c) for n, c in zip(COLUMNS, line, strict=True) if n in shown))
        return table

    def title(self) -> str:
        """Return what was evaluated, on whom, in one line."""
        counts = ", ".join(f"{n} {e}" for e, n in self.faces.items())
        return f"{self.synthesizer} on {self.data}, {self.split}: {self.people} people, {counts}"

    def caption(self) -> str:
        """Return what the figures were measured with."""
        parts = ["through the pipeline, ungated", f"faces of {self.size} px"]
        parts += [result.caption() for result in self.results.values() if result.caption()]
        if self.reference:
            parts.append(f"reference {self.reference}")
        return "; ".join(parts) + "; intervals: bootstrap over people"

    def lines(self) -> list[Line]:
        """Return the table's lines; what was not measured for one reason shares a line."""
        reasons: dict[str, list[str]] = {}
        for name, why in self.skipped.items():
            reasons.setdefault(why, []).append(name)
        return [
            *(line for result in self.results.values() for line in result.lines()),
            *(
                Line("not measured", "", "", f"{_listed(names)}: {why}")
                for why, names in reasons.items()
            ),
        ]


def _listed(names: list[str]) -> str:
    """Return names with what several begin with once: "recall, sad, fear" for two of them."""
    ends: dict[str, list[str]] = {}
    for name in names:
        start, _, end = name.rpartition(", ")
        ends.setdefault(start, []).append(end)
    return "; ".join(", ".join(filter(None, (start, *found))) for start, found in ends.items())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
