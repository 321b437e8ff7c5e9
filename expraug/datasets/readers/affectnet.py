"""AffectNet: faces from the web, labelled by hand; both layouts that its owners distribute."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from expraug.datasets.readers.face_dataset import FaceDataset, numbered
from expraug.datasets.readers.layout import Skipped, first_there, images_in
from expraug.datasets.source import Box, FaceItem
from expraug.expressions import LabelScheme

_SPLITS = ("train", "validation")
_NPY_FOLDERS = {"train": "train_set", "validation": "val_set"}
_ALL_CLASSES = (
    *LabelScheme.named("affectnet-8").classes.values(),
    *("none", "uncertain", "no-face"),
)
_CSV_LISTS = {"train": "training.csv", "validation": "validation.csv"}


class AffectNet(FaceDataset):
    """Mollahosseini, Hasani & Mahoor (2019), AffectNet, IEEE Trans. Affective Computing 10(1).

    Labels 0 to 7 are the eight expressions; 8 (none), 9 (uncertain) and 10 (no face), which only
    the CSV lists have, are skipped as "no_expression", as is contempt with seven classes. The
    owners' splits are "train" and "validation"; papers report on the latter, since the test set is
    not distributed. The set does not say who is who. The layout of .npy files holds one file an
    image: opening "train" reads 290,000 small files, which takes minutes on a slow disk.

    Args:
        root: the data set's folder.
        num_classes: 8, or 7 without contempt.
        crop: in the CSV layout, give the face that the list's box marks, not the whole image. (The
            images of the .npy layout are cropped already.)
        split, kwargs: as `FaceDataset` takes them.
    """

    name = "AffectNet"
    layout: ClassVar[str] = """
train_set/images/0.jpg, train_set/annotations/0_exp.npy, and the same in val_set/
or Manually_Annotated_file_lists/training.csv and validation.csv   columns
       subDirectory_filePath, face_x, face_y, face_width, face_height, facial_landmarks,
       expression, valence, arousal
   Manually_Annotated_Images/689/737db2483489148d783ef278f43f486c0a97e140fc4b6b61b84363ca.jpg
   (or Manually_Annotated/Manually_Annotated_Images/...)
"""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        num_classes: Literal[7, 8] = 8,
        crop: bool = True,
        missing: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        self.scheme = LabelScheme.named(f"affectnet-{num_classes}")
        self.crop = crop
        super().__init__(root, split, missing=missing, **kwargs)

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        if first_there(self.root, *_NPY_FOLDERS.values()) is not None:
            return self._of_npy()
        lists = first_there(self.root, "Manually_Annotated_file_lists") or self.root
        images = first_there(
            self.root, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images"
        )
        if images is None or first_there(lists, *_CSV_LISTS.values()) is None:
            raise self.layout_error("neither train_set or val_set, nor lists and images")
        return self._of_csv(lists, images)

    def _wanted(self) -> tuple[str, ...]:
        """Return the splits to read: the large one is not, where the small one is asked for."""
        return (self.split,) if self.split in _SPLITS else _SPLITS

    def _of_npy(self) -> Iterator[FaceItem | Skipped]:
        for split in self._wanted():
            folder = self.root / _NPY_FOLDERS[split]
            images = {path.stem: path for path in images_in(folder / "images")}
            annotations = sorted((folder / "annotations").glob("*_exp.npy"))
            for annotation in annotations:
                stem = annotation.name.removesuffix("_exp.npy")
                path = images.pop(stem, folder / "images" / f"{stem}.jpg")
                origin = path.relative_to(self.root).as_posix()
                yield self._item(f"{split}_{stem}", origin, path, split, _npy_text(annotation))
            for path in images.values():
                yield Skipped(path.relative_to(self.root).as_posix(), "no_annotation")

    def _of_csv(self, lists: Path, images: Path) -> Iterator[FaceItem | Skipped]:
        for split in self._wanted():
            name = _CSV_LISTS[split]
            for number, row in self._rows(lists / name):
                if len(row) != 9:
                    yield Skipped(f"{name} line {number}", "damaged_annotation")
                    continue
                path = images.joinpath(*row[0].replace("\\", "/").split("/"))
                origin = path.relative_to(self.root).as_posix()
                box = _box(row[1:5]) if self.crop else None
                yield self._item(path.stem, origin, path, split, row[6], box)

    def _rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells; some releases of validation.csv have no line of names."""
        if not path.is_file():
            return
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            rows = csv.reader(file)
            try:
                for row in rows:
                    if row and row[0] != "subDirectory_filePath":
                        yield rows.line_num, row
            except csv.Error as error:
                raise self.layout_error(f"{path.name} is no CSV file ({error})") from error

    def _item(
        self, stem: str, origin: str, path: Path, split: str, label: str, box: Box | None = None
    ) -> FaceItem | Skipped:
        class_name = numbered(self.classes, label)
        if class_name is not None:
            return FaceItem(stem, class_name, origin, path, box=box, split=split)
        known = numbered(_ALL_CLASSES, label) is not None
        return Skipped(origin, "no_expression" if known else "damaged_annotation")


def _npy_text(path: Path) -> str:
    """Return what a file of one number holds, saved as a number or as text; "" if damaged."""
    try:
        return str(np.load(path, allow_pickle=False).item())
    except Exception:  # numpy raises many kinds on damaged files
        return ""


def _box(cells: list[str]) -> Box | None:
    """Return the box of x, y, width and height; None where the list has none (-1 or NULL)."""
    try:
        x, y, width, height = (round(float(cell)) for cell in cells)
    except (ValueError, OverflowError):
        return None
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None
