"""The HTML report: one file, pictures inside, no script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from expraug.evaluate.result import COLUMNS

if TYPE_CHECKING:
    from expraug.evaluate.report import Evaluation

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 2rem }
th, td { text-align: left; padding: .2rem .7rem; vertical-align: top;
  border-bottom: 1px solid #ddd }
td:last-child, th:last-child { text-align: right }
.sheet td, .sheet th { border: 0; padding: .15rem; text-align: center; font-size: 12px }
.sheet img { display: block; border-radius: 4px }
.pairs { display: flex; flex-wrap: wrap; gap: .8rem; margin-bottom: 1.5rem }
.pair { display: flex; gap: 2px; font-size: 12px; text-align: center }
.plot { max-width: 230px } .plot svg { width: 230px; font-size: 10px }
figure { margin: 0; max-width: 112px; overflow-wrap: anywhere }
"""


def write_page(evaluation: Evaluation, path: Path) -> None:
    """Write the report of an evaluation."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(evaluation.synthesizer)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(evaluation.synthesizer)}</h1><p>{escape(evaluation.title())}</p>",
        _table(COLUMNS, evaluation.lines()),
        f"<p>{escape(evaluation.caption())}</p>",
        *(result.html() for result in evaluation.results.values()),
        "<h2>All figures</h2><details><summary>JSON</summary><pre>",
        escape(json.dumps(evaluation.to_dict(), indent=1, ensure_ascii=False)),
        "</pre></details></html>\n",
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>\n{body}</table>"
