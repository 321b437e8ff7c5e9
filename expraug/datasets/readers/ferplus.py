"""FER+: ten annotators' votes on the faces of FER2013."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from expraug.datasets.png import png
from expraug.datasets.readers.face_dataset import FaceDataset
from expraug.datasets.readers.fer2013 import pixel_rows
from expraug.datasets.readers.layout import Skipped, first_there
from expraug.datasets.source import FaceItem
from expraug.expressions import LabelScheme

_SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
_FOLDERS = {
    "Training": "FER2013Train",
    "PublicTest": "FER2013Valid",
    "PrivateTest": "FER2013Test",
}


class _Votes(NamedTuple):
    """One row of fer2013new.csv; `counts` are the ten classes' votes, or None where damaged."""

    usage: str
    image_name: str
    counts: list[int] | None


class FERPlus(FaceDataset):
    """Barsoum et al. (2016), Training Deep Networks for Facial Expression Recognition with
    Crowd-Sourced Label Distribution, arXiv 1608.01041.

    A face's class is the authors' majority: a class with a single vote loses it, and one class of
    the ten (unknown and "no face" are two of them) must have more than half of what is left. Faces
    where none has, or that are unknown or no face, are skipped as "no_expression". `items[i].votes`
    are the shares of the eight expressions, again without single votes.

    The pixels come from fer2013.csv, whose rows the votes follow, or from the PNG folders that the
    authors' script makes. Splits are FER2013's. The set does not say who is who.

    Args:
        root: the folder with fer2013new.csv.
        soft_labels: give the votes as target, (8,) float32 that sum to 1, not the class index.
        split, kwargs: as `FaceDataset` takes them.
    """

    name = "FER+"
    scheme = LabelScheme.named("fer+")
    mode = "L"
    layout: ClassVar[str] = """
fer2013new.csv          columns Usage, Image name, neutral, happiness, surprise, sadness, anger,
                        disgust, fear, contempt, unknown, NF
fer2013.csv             of FER2013, beside it
or data/FER2013Train/fer0000000.png, data/FER2013Valid/, data/FER2013Test/
"""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        soft_labels: bool = False,
        missing: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        self.soft_labels = soft_labels
        super().__init__(root, split, missing=missing, **kwargs)

    def target(self, index: int) -> Any:
        """Return the class index of an image, or with `soft_labels` its votes, (8,) float32."""
        return torch.tensor(self.items[index].votes) if self.soft_labels else super().target(index)

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        rows = self._votes(self.root / "fer2013new.csv")
        pixels = first_there(self.root, "fer2013.csv", "fer2013/fer2013.csv")
        if pixels is not None:
            return self._of_pixels(rows, pixels)
        folder = next(
            (f for f in (self.root, self.root / "data") if (f / "FER2013Train").is_dir()), None
        )
        if folder is None:
            raise self.layout_error("neither fer2013.csv nor folders of its images")
        return self._of_images(rows, folder)

    def _votes(self, path: Path) -> list[_Votes]:
        if not path.is_file():
            raise self.layout_error(f"no {path.name}")
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            try:
                header, *rows = list(csv.reader(file)) or [[]]
            except csv.Error as error:
                raise self.layout_error(f"{path.name} is no CSV file ({error})") from error
        if [name.strip().lower() for name in header[2:12]] != [*self.classes, "unknown", "nf"]:
            raise self.layout_error(f"{path.name} has other columns: {', '.join(header)}")
        return [_Votes("".join(row[:1]), "".join(row[1:2]), _counts(row[2:12])) for row in rows]

    def _of_pixels(self, rows: Sequence[_Votes], path: Path) -> Iterator[FaceItem | Skipped]:
        pairs = zip_longest(rows, pixel_rows(self, path))
        for number, (votes, row) in enumerate(pairs):
            if votes is None or row is None or votes.usage != row.usage:
                raise self.layout_error(
                    f"fer2013new.csv and {path.name} do not have the same rows in the same order; "
                    f"row {number} is the first that differs"
                )
            file = None if row.pixels is None else png(row.pixels)
            yield self._item(row.stem, row.origin, file, votes.usage, votes.counts)

    def _of_images(self, rows: Sequence[_Votes], folder: Path) -> Iterator[FaceItem | Skipped]:
        for number, (usage, name, counts) in enumerate(rows):
            if not name or usage not in _FOLDERS:  # the authors leave out what is no face
                yield Skipped(f"row {number}", "no_expression")
                continue
            path = folder / _FOLDERS[usage] / name
            origin = path.relative_to(self.root).as_posix()
            yield self._item(path.stem, origin, path, usage, counts)

    def _item(
        self,
        stem: str,
        origin: str,
        file: Path | bytes | None,
        usage: str,
        counts: list[int] | None,
    ) -> FaceItem | Skipped:
        if counts is None or file is None or usage not in _SPLITS:
            return Skipped(origin, "damaged_annotation")
        winner = majority(counts)
        if winner is None or winner >= len(self.classes):
            return Skipped(origin, "no_expression")
        return FaceItem(
            *(stem, self.classes[winner], origin, file),
            split=_SPLITS[usage],
            votes=shares(counts[: len(self.classes)]),
        )


def majority(counts: Sequence[int]) -> int | None:
    """Return the index of the class that the authors' majority gives, None if there is none."""
    kept = _without_single_votes(counts)
    most = max(kept)
    return kept.index(most) if most > 0.5 * sum(kept) else None


def shares(counts: Sequence[int]) -> tuple[float, ...]:
    """Return what share of the votes each class has, without single votes."""
    kept = _without_single_votes(counts)
    return tuple(count / sum(kept) for count in kept)


def _without_single_votes(counts: Sequence[int]) -> list[int]:
    return [count if count > 1 else 0 for count in counts]


def _counts(cells: Sequence[str]) -> list[int] | None:
    try:
        counts = [int(cell) for cell in cells]
    except ValueError:
        return None
    return counts if len(counts) == 10 and min(counts) >= 0 else None
