"""Examples: a few people with every expression, each figure's distribution, and the faces at its
ends."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from expraug.evaluate.classifier_recall import target_probabilities
from expraug.evaluate.context import Context
from expraug.evaluate.distribution import plot
from expraug.evaluate.result import Result
from expraug.expressions import Expression

PEOPLE, EXTREMES = 10, 6
_SHOWN = 112


@dataclass(frozen=True)
class Face:
    """One face to show.

    Args:
        uri: the picture, as a data URI.
        caption: under it.
    """

    uri: str
    caption: str


@dataclass(frozen=True)
class Example:
    """One row of a sheet.

    Args:
        sheet: the sheet it belongs to: "people", or as "happy: identity, lowest".
        cells: faces by column.
    """

    sheet: str
    cells: dict[str, Face]


@dataclass
class Examples(Result):
    """The rows of all sheets, and plots as SVG; for the page alone."""

    rows: list[Example]
    plots: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {}

    def html(self) -> str:
        plots = "".join(self.plots)
        head = "<h2>Distributions</h2><p>Grey: real faces of the class. Red: synthetics.</p>"
        shown = f"{head}<div class=pairs>{plots}</div>" if plots else ""
        return "\n".join([shown, *_sheets(self.rows)])


def measure(context: Context) -> Examples:
    """Choose the rows of all sheets."""
    data = context.data
    made = {}
    for target in context.targets:
        found = context.synthetics(target)
        if len(found.made_of):
            made[target] = found.made_of, found.made_faces
    probabilities = {
        target: target_probabilities(context, target)[context.synthetics(target).made.numpy()]
        if target in context.classifier.expressions
        else None
        for target in made
    }
    at = {t: {i: k for k, i in enumerate(ix.tolist())} for t, (ix, _) in made.items()}
    indices = sorted({i for position in at.values() for i in position}, key=lambda i: _worth(i, at))
    people: dict[str, int] = {}
    for i in indices:
        people.setdefault(data.people[i], i)
    rows = []
    for person, i in _spread(list(people.items()), PEOPLE):
        cells = {"source": _face(data.faces[i], person)}
        for target, (_, faces) in made.items():
            if i in at[target]:
                k = at[target][i]
                cells[str(target)] = _face(faces[k], _percent(probabilities[target], k))
        rows.append(Example("people", cells))
    for told in context.distributions:
        if told.target not in made:
            continue
        sources, faces = made[told.target]
        if len(told.synthetic) != len(sources):  # some have no such figure
            continue
        order = np.argsort(told.synthetic).tolist()
        half = min(EXTREMES, len(order) // 2)
        for word, chosen in (("lowest", order[:half]), ("highest", order[::-1][:half])):
            for k in chosen:
                i = int(sources[k])
                cells = {
                    "source": _face(data.faces[i], data.people[i]),
                    str(told.target): _face(faces[k], f"{told.synthetic[k]:.2f}"),
                }
                rows.append(Example(f"{told.target}: {told.name}, {word}", cells))
    return Examples(rows, [plot(told) for told in context.distributions])


def _worth(index: int, at: Mapping[Expression, Mapping[int, int]]) -> tuple[int, int]:
    """Order first what most targets were made of."""
    return -sum(index in position for position in at.values()), index


def _spread(items: list[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    if len(items) <= count:
        return items
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def _percent(values: np.ndarray | None, place: int) -> str:
    return "" if values is None else f"{values[place]:.0%}"


def _face(face: Tensor, caption: str) -> Face:
    """Encode a (3, S, S) uint8 face."""
    image = Image.fromarray(face.permute(1, 2, 0).contiguous().numpy())
    data = BytesIO()
    image.resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS).save(data, "JPEG", quality=88)
    return Face("data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode(), caption)


def _sheets(examples: Sequence[Example]) -> Iterable[str]:
    for name, group in groupby(examples, key=lambda example: example.sheet):
        rows = list(group)
        if name == "people":
            yield "<h2>People</h2><p>Under each face: the target's probability.</p>"
            yield _grid(rows)
            continue
        yield f"<h3>{escape(name)}</h3>"
        pairs = ("".join(map(_figure, row.cells.values())) for row in rows)
        yield "<div class=pairs>" + "".join(f"<div class=pair>{p}</div>" for p in pairs) + "</div>"


def _grid(rows: Sequence[Example]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row.cells))
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "\n".join(
        "<tr>"
        + "".join(f"<td>{_figure(row.cells[c]) if c in row.cells else ''}</td>" for c in columns)
        + "</tr>"
        for row in rows
    )
    return f"<table class=sheet><tr>{head}</tr>\n{body}</table>"


def _figure(face: Face) -> str:
    caption = escape(face.caption)
    return (
        f'<figure><img src="{face.uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )
