"""The HTML report: the figures, and below them the faces that they were measured on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from expraug.evaluate.examples import Examples
from expraug.evaluate.result import COLUMNS, named_once
from expraug.faces.image_file import write_file
from expraug.review.component import Faces, page_of

if TYPE_CHECKING:
    from expraug.evaluate.report import Evaluation


def write_page(evaluation: Evaluation, path: Path) -> None:
    """Write the report of an evaluation."""
    shown = [r.faces for r in evaluation.results.values() if isinstance(r, Examples)]
    faces = shown[0] if shown else Faces([])
    figures = [
        f"<h1>{escape(evaluation.synthesizer)}</h1><p>{escape(evaluation.title())}</p>",
        f'<p><a href="#faces">To the {len(faces.rows):,} faces</a></p>' if faces.rows else "",
        "<details open><summary>Figures</summary>",
        _table(COLUMNS, named_once(evaluation.lines())),
        f"<p>{escape(evaluation.caption())}</p>",
        *(result.html() for result in evaluation.results.values()),
        "</details><details><summary>All figures as JSON</summary><pre>",
        escape(json.dumps(evaluation.to_dict(), indent=1, ensure_ascii=False)),
        "</pre></details>",
    ]
    page = page_of("Faces", faces, above="\n".join(figures), heading=evaluation.synthesizer)
    write_file(path, page.encode())


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>\n{body}</table>"
