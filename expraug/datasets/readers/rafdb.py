"""RAF-DB, basic expressions: 15,339 aligned faces from the web."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from expraug.datasets.readers.face_dataset import FaceDataset, numbered
from expraug.datasets.readers.layout import Skipped, first_there
from expraug.datasets.source import FaceItem
from expraug.expressions import LabelScheme


class RAFDB(FaceDataset):
    """Li, Deng & Du (2017), Reliable Crowdsourcing and Deep Locality-Preserving Learning, CVPR.

    The list counts classes from 1; indices here count from 0, as those of
    `LabelScheme.named("raf-db")` do. Splits are the owners': "train" (12,271) and "test" (3,068).
    The set does not say who is who.
    """

    name = "RAF-DB"
    scheme = LabelScheme.named("raf-db")
    layout: ClassVar[str] = """
EmoLabel/list_patition_label.txt       lines "train_00001.jpg 5", classes 1 to 7
Image/aligned/train_00001_aligned.jpg
(or both in a folder basic/)
"""

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        listed = first_there(
            self.root,
            *("EmoLabel/list_patition_label.txt", "basic/EmoLabel/list_patition_label.txt"),
            "list_patition_label.txt",
        )
        aligned = first_there(self.root, "Image/aligned", "basic/Image/aligned", "aligned")
        if listed is None or aligned is None:
            raise self.layout_error(
                "no list_patition_label.txt" if listed is None else "no folder aligned"
            )
        for number, line in enumerate(listed.read_text(errors="replace").splitlines(), start=1):
            name, _, label = line.strip().rpartition(" ")
            if not line.strip():
                continue
            class_name = numbered(self.classes, label, first=1)
            split = name.partition("_")[0]
            if class_name is None or split not in ("train", "test"):
                yield Skipped(f"{listed.name} line {number}", "damaged_annotation")
                continue
            stem = name.strip().removesuffix(".jpg")
            path = aligned / f"{stem}_aligned.jpg"
            origin = path.relative_to(self.root).as_posix()
            yield FaceItem(stem, class_name, origin, path, split=split)
