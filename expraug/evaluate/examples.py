"""The faces that a report shows: a few people with every expression, and the extremes of each."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

from expraug.evaluate.face_set import FaceSet
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
    """One row of a contact sheet.

    Args:
        sheet: the sheet it belongs to: "people", or "happy: best", "happy: worst".
        cells: faces by column.
    """

    sheet: str
    cells: dict[str, Face]


def choose_examples(
    data: FaceSet,
    made: Mapping[Expression, tuple[Tensor, Tensor]],
    probabilities: Mapping[Expression, list[float] | None],
) -> list[Example]:
    """Return the rows of all sheets.

    Args:
        made: by target, the indices of the sources and the synthetics, (N, 3, S, S) uint8.
        probabilities: by target, what the classifier gives each; None if it does not know the target.
    """
    at = {t: {i: k for k, i in enumerate(ix.tolist())} for t, (ix, _) in made.items()}
    indices = sorted({i for places in at.values() for i in places}, key=lambda i: _worth(i, at))
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
    for target, (sources, faces) in made.items():
        values = probabilities[target]
        if values is None:
            continue
        order = np.argsort(values)[::-1].tolist()
        half = min(EXTREMES, len(order) // 2)
        for word, chosen in (("best", order[:half]), ("worst", order[::-1][:half])):
            for k in chosen:
                i = int(sources[k])
                cells = {
                    "source": _face(data.faces[i], data.people[i]),
                    str(target): _face(faces[k], _percent(values, k)),
                }
                rows.append(Example(f"{target}: {word}", cells))
    return rows


def _worth(index: int, at: Mapping[Expression, Mapping[int, int]]) -> tuple[int, int]:
    """Order first what most targets were made of."""
    return -sum(index in places for places in at.values()), index


def _spread(items: list[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    if len(items) <= count:
        return items
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def _percent(values: list[float] | None, place: int) -> str:
    return "" if values is None else f"{values[place]:.0%}"


def _face(face: Tensor, caption: str) -> Face:
    """Encode a (3, S, S) uint8 face."""
    image = Image.fromarray(face.permute(1, 2, 0).contiguous().numpy())
    data = BytesIO()
    image.resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS).save(data, "JPEG", quality=88)
    return Face("data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode(), caption)
