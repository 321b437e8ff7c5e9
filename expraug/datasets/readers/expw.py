"""ExpW, Expression in-the-Wild: 91,793 faces, marked by boxes in photographs from the web."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from expraug.datasets.readers.face_dataset import FaceDataset, numbered
from expraug.datasets.readers.layout import Skipped, first_there
from expraug.datasets.source import Box, FaceItem
from expraug.expressions import LabelScheme


class ExpW(FaceDataset):
    """Zhang, Luo, Loy & Tang (2018), From Facial Expression Recognition to Interpersonal Relation
    Prediction, IJCV 126.

    The set has no official split and does not say who is who, so that it opens as split "all" only.
    Who cuts it must keep the faces of one photograph together: `origin` is "photograph#face".

    Args:
        root: the data set's folder.
        crop: give the face that the list's box marks, not the whole photograph.
        split, kwargs: as `FaceDataset` takes them.
    """

    name = "ExpW"
    scheme = LabelScheme.named("expw")
    layout: ClassVar[str] = """
label/label.lst                        lines of
       image_name face_id top left right bottom confidence expression
       "angry_actor_104.jpg 0 28 113 226 141 22.9362 0"
image/origin/angry_actor_104.jpg
(or label.lst and origin/)
"""

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        *,
        crop: bool = True,
        missing: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        self.crop = crop
        super().__init__(root, split, missing=missing, **kwargs)

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        listed = first_there(self.root, "label/label.lst", "label.lst")
        photographs = first_there(self.root, "image/origin", "origin")
        if listed is None or photographs is None:
            raise self.layout_error("no label.lst" if listed is None else "no folder origin")
        for number, line in enumerate(listed.read_text(errors="replace").splitlines(), start=1):
            if not line.strip():
                continue
            cells = line.rsplit(maxsplit=7)  # names may hold spaces
            box = _box(cells)
            class_name = numbered(self.classes, cells[-1])
            if box is None or class_name is None:
                yield Skipped(f"{listed.name} line {number}", "damaged_annotation")
                continue
            path = photographs / Path(cells[0]).name
            yield FaceItem(
                f"{path.stem}_{cells[1]}",
                class_name,
                f"{path.relative_to(self.root).as_posix()}#{cells[1]}",
                path,
                box=box if self.crop else None,
            )


def _box(cells: list[str]) -> Box | None:
    """Return the box of a line, which gives top, left, right, bottom; None if it is damaged."""
    try:
        top, left, right, bottom = (int(cell) for cell in cells[2:6])
    except ValueError:
        return None
    whole = len(cells) == 8 and left < right and top < bottom
    return (left, top, right, bottom) if whole else None
