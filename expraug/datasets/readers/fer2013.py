"""FER2013: 35,887 grey faces of 48×48 pixels from the web, as a CSV file of pixels."""

from __future__ import annotations

import copy
import csv
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from torchvision import datasets as torchvision_datasets

from expraug.datasets.png import png
from expraug.datasets.readers.face_dataset import FaceDataset, numbered
from expraug.datasets.readers.layout import Skipped, first_there, folders_in, images_in
from expraug.datasets.source import FaceItem, ParquetSource, iterate
from expraug.errors import LabelError
from expraug.expressions import Expression, LabelScheme

SIDE = 48

_SPLITS = {
    **dict.fromkeys(("training", "train"), "train"),
    **dict.fromkeys(("publictest", "validation", "valid", "val"), "validation"),
    **dict.fromkeys(("privatetest", "test"), "test"),
}


class FER2013(FaceDataset):
    """Goodfellow et al. (2013), Challenges in Representation Learning, arXiv 1307.0414.

    Splits are the challenge's: Training (28,709), PublicTest (3,589; here "validation") and
    PrivateTest (3,589; "test"). Folders of images keep the splits of their names: the common copy
    with train/ and test/ alone has both tests in "test". The set does not say who is who.

    Args:
        root: a folder with one of the layouts, one of these files, or a
            `torchvision.datasets.FER2013`, whose own split is taken whatever `split` says.
        split, kwargs: as `FaceDataset` takes them.
    """

    name = "FER2013"
    scheme = LabelScheme.named("fer2013")
    mode = "L"
    layout: ClassVar[str] = """
fer2013.csv            columns emotion, pixels, Usage
or icml_face_data.csv  columns emotion, Usage, pixels
or train.csv           columns emotion, pixels
                       (each also in a folder fer2013/, as torchvision has it)
or train/angry/*.jpg   and test/, validation/, with one folder a class
or train*.parquet      and validation*, test*, also in a folder data/
"""

    def __init__(
        self,
        root: str | Path | torchvision_datasets.FER2013,
        split: str = "train",
        *,
        missing: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        self._given = root if isinstance(root, torchvision_datasets.FER2013) else None
        if self._given is not None:
            root, split = self._given.root, "all"
        super().__init__(root, split, missing=missing, **kwargs)

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        if self._given is not None:
            return self._of_torchvision(self._given)
        if self.root.is_file():
            return self._of_file(self.root)
        base = self.root / "fer2013" if (self.root / "fer2013").is_dir() else self.root
        table = first_there(base, "fer2013.csv", "icml_face_data.csv", "train.csv")
        if table is not None:
            return self._of_csv(table)
        parquets = sorted(base.glob("*.parquet")) or sorted(base.glob("data/*.parquet"))
        if parquets:
            return (item for path in parquets for item in self._of_parquet(path))
        return self._of_folders(base)

    def _of_file(self, path: Path) -> Iterator[FaceItem | Skipped]:
        return self._of_parquet(path) if path.suffix == ".parquet" else self._of_csv(path)

    def _of_csv(self, path: Path) -> Iterator[FaceItem | Skipped]:
        for row in pixel_rows(self, path):
            class_name = numbered(self.classes, row.emotion)
            split = _SPLITS.get(row.usage.lower())
            if class_name is None or row.pixels is None:
                yield Skipped(row.origin, "damaged_annotation")
            else:
                file = png(row.pixels)
                yield FaceItem(row.stem, class_name, row.origin, file, split=split)

    def _of_parquet(self, path: Path) -> Iterator[FaceItem | Skipped]:
        try:
            source = ParquetSource(path)
        except ValueError as error:  # pyarrow's errors too
            raise self.layout_error(f"{path.name} is no parquet file of faces ({error})") from error
        found = re.match("|".join(_SPLITS), path.name.lower())
        split = _SPLITS[found[0]] if found else None
        for item in iterate(source):
            class_name = self._class_name(item.class_name)
            origin = f"{path.name} {item.origin}"
            if class_name is None:
                yield Skipped(origin, "no_expression")
            else:
                stem = f"{path.stem}_{item.stem}"
                yield FaceItem(stem, class_name, origin, item.file, split=split)

    def _of_folders(self, base: Path) -> Iterator[FaceItem | Skipped]:
        if not base.is_dir():
            raise self.layout_error("no such folder")
        for part in folders_in(base):
            split = _SPLITS.get(part.name.lower())
            for folder in folders_in(part) if split else ():
                class_name = self._class_name(folder.name)
                for path in images_in(folder):
                    origin = path.relative_to(self.root).as_posix()
                    if class_name is None:
                        yield Skipped(origin, "stray_file")
                    else:
                        yield FaceItem(path.stem, class_name, origin, path, split=split)

    def _of_torchvision(self, given: torchvision_datasets.FER2013) -> Iterator[FaceItem | Skipped]:
        plain = copy.copy(given)
        plain.transform = plain.target_transform = None
        for index in range(len(plain)):
            image, label = plain[index]
            origin, stem = f"row {index}", f"fer_{given._split}_{index:07d}"
            if label is None:  # test.csv holds pixels alone
                yield Skipped(origin, "no_annotation")
            else:
                file = png(np.asarray(image))
                yield FaceItem(stem, self.classes[label], origin, file, split=given._split)

    def _class_name(self, name: str) -> str | None:
        """Return the class that a folder or a parquet file calls "3", "happy" or "Happiness"."""
        if name.isdecimal():
            return numbered(self.classes, name)
        try:
            return self.scheme.class_name(Expression.parse(name))
        except LabelError:
            return None


class PixelRow(NamedTuple):
    """One row of the CSV file; `pixels` is (48, 48) uint8, or None where they are damaged."""

    number: int
    emotion: str
    usage: str
    pixels: np.ndarray | None

    @property
    def stem(self) -> str:
        return f"fer{self.number:07d}"

    @property
    def origin(self) -> str:
        return f"row {self.number}"


def pixel_rows(dataset: FaceDataset, path: Path) -> Iterator[PixelRow]:
    """Yield the rows of fer2013.csv, icml_face_data.csv or train.csv, counted from 0.

    Raises:
        LayoutError: it is no such file.
    """
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        try:
            columns = {name.strip().lower(): i for i, name in enumerate(next(rows, []))}
            if not {"emotion", "pixels"} <= columns.keys():
                raise dataset.layout_error(f"{path.name} has no columns emotion and pixels")
            usage = columns.get("usage")
            for number, row in enumerate(rows):
                row += [""] * (len(columns) - len(row))
                yield PixelRow(
                    number,
                    row[columns["emotion"]],
                    "training" if usage is None else row[usage].strip(),
                    _pixels(row[columns["pixels"]]),
                )
        except csv.Error as error:
            raise dataset.layout_error(f"{path.name} is no CSV file ({error})") from error


def _pixels(text: str) -> np.ndarray | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's word for what is no number
            values = np.fromstring(text, np.int64, sep=" ")  # 5 times faster than split
    except (ValueError, DeprecationWarning):
        return None
    if len(values) != SIDE * SIDE or values.min() < 0 or values.max() > 255:
        return None
    return values.astype(np.uint8).reshape(SIDE, SIDE)
