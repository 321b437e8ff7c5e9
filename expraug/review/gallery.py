"""Faces in a notebook: each source in a row with what is made of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from expraug.datasets.augmented import ExpressionAugmentedDataset
from expraug.errors import NoFaceError, failure
from expraug.expand.contact_sheet import crop, spread
from expraug.expand.layout import REVIEW
from expraug.expressions import Expression
from expraug.faces.detect import Detector
from expraug.faces.image import as_array, read_image
from expraug.faces.image_file import write_file
from expraug.labels import split_sample
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest
from expraug.review.page import manifest_rows
from expraug.review.pictures import SetPictures
from expraug.review.thumbnail import thumbnail
from expraug.synthesizer import AUTO, Synthesizer

_STYLE = (
    ".expraug { display: grid; gap: 6px; font: 13px system-ui, sans-serif }"
    ".expraug div { display: flex; flex-wrap: wrap; gap: 6px }"
    ".expraug figure { margin: 0; width: 160px; overflow-wrap: anywhere }"
    ".expraug img { display: block; width: 160px }"
)


@dataclass(frozen=True)
class Shown:
    """A picture and what stands under it.

    Args:
        picture: a data URI; None where there is no picture.
        caption: the text.
    """

    picture: str | None
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Rows of faces, sources first. A notebook shows it as the last value of a cell.

    Args:
        rows: the faces.
    """

    rows: Sequence[Sequence[Shown]]

    def __repr__(self) -> str:
        faces = sum(map(len, self.rows)) - len(self.rows)
        return f"<{faces} faces beside {len(self.rows)} sources: shown by a notebook, or `save`>"

    def _repr_html_(self) -> str:
        rows = "\n".join("<div>" + "".join(map(_figure, row)) + "</div>" for row in self.rows)
        return f'<style>{_STYLE}</style><div class="expraug">{rows}</div>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as an HTML page that needs no other file; raises OSError if it cannot."""
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Faces</title>\n'
        write_file(Path(path), f"{head}{self._repr_html_()}</html>\n".encode())


def _figure(shown: Shown) -> str:
    caption = escape(shown.caption)
    image = f'<img src="{shown.picture}" alt="{caption}">' if shown.picture else ""
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def show(
    what: Any,
    shows: Expression | str | None = None,
    targets: Sequence[Expression | str] | None = None,
    *,
    limit: int = 8,
    intensity: float = 1.0,
    synthesizer: str | Synthesizer = AUTO,
    alignment: str | Detector = "crop",
    device: str = "cpu",
) -> Gallery:
    """Return faces beside their sources, for a notebook to show.

    Args:
        what: an image, as `augment` takes it: its largest face is given other expressions; or the
            folder of an expanded set; or an `ExpressionAugmentedDataset` with `mode="add"`. Of a
            set, faces are shown that are spread evenly over it.
        shows: of an image: what its face shows; None if that is not known.
        targets: of an image: expressions to make; None: all that can be made.
        limit: of a set: faces at most.
        intensity, synthesizer, alignment, device: of an image: as `augment` takes them.

    Raises:
        NoFaceError: no face in the image.
        ReviewError: a folder without a complete expanded set.
        UnsupportedExpressionError, UnreadableImageError, LabelError, MissingWeightsError,
        MissingDependencyError: as `augment` does.
        ValueError: an argument out of range, or an image of another kind.

    Examples:
        >>> show("examples/faces/neutral/london_008.jpg", "neutral", ["happy", "sad"])
        <2 faces beside 1 sources: shown by a notebook, or `save`>
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    if isinstance(what, ExpressionAugmentedDataset):
        return Gallery(list(_of_dataset(what, limit)))
    if isinstance(what, (str, os.PathLike)) and Path(what).is_dir():
        return Gallery(list(_of_set(Path(what), limit)))
    image = read_image(Path(what)) if isinstance(what, (str, os.PathLike)) else as_array(what)
    augmenter = ExpressionAugmenter(synthesizer, alignment=alignment, device=device)
    shown = None if shows is None else Expression.parse(shows)
    wanted = [Expression.parse(target) for target in targets or ()]
    augmenter.require(wanted, shown)
    wanted = wanted or list(augmenter.available(shown))
    (face,) = augmenter.detect([image])
    if face is None:
        raise failure(NoFaceError.reason, {}, "", image.shape)
    requests = [SynthesisRequest(target, intensity) for target in wanted]
    row = [Shown(thumbnail(crop(image, face.points)), "source" if shown is None else str(shown))]
    for request, made in zip(requests, augmenter([image] * len(wanted), requests), strict=True):
        if made.target is None:
            row.append(Shown(None, f"{request.target}: refused ({made.reason})"))
        else:
            row.append(Shown(thumbnail(crop(made.image, face.points)), str(request.target)))
    return Gallery([row])


def _of_dataset(dataset: ExpressionAugmentedDataset, limit: int) -> Iterator[list[Shown]]:
    first, names = len(dataset.base), dataset.classes
    if len(dataset) == first:
        raise ValueError("the data set adds no synthetic faces: give one with mode='add'")

    def shown(sample: Any) -> Shown:
        image, label = split_sample(sample)
        caption = names[label] if isinstance(label, int) and label < len(names) else str(label)
        return Shown(thumbnail(as_array(image)), caption)

    for position in islice(spread(len(dataset) - first), limit):
        index = first + position
        yield [shown(dataset.base[dataset.sources[index]]), shown(dataset[index])]


def _of_set(folder: Path, limit: int) -> Iterator[list[Shown]]:
    made = [row for row in manifest_rows(folder) if row["file"]]
    chosen = [made[i] for i in islice(spread(len(made)), limit)]
    sources = [row["source"] for row in chosen]
    pictures = SetPictures(folder, folder / REVIEW, True, [r["file"] for r in chosen], sources)
    for row in chosen:
        original = pictures.original(row["source"], row["source_class"])
        yield [
            Shown(original, row["source_class"] if original else f"{row['source']} (not copied)"),
            Shown(pictures.synthetic(row["file"]), row["target"]),
        ]
