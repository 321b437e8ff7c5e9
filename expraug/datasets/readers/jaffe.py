"""JAFFE: 213 posed expressions of ten Japanese women."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from expraug.datasets.readers.face_dataset import FaceDataset
from expraug.datasets.readers.layout import Skipped, images_below
from expraug.datasets.source import FaceItem
from expraug.expressions import LabelScheme

_NAME = re.compile(r"([A-Z]{2})\.(AN|DI|FE|HA|NE|SA|SU)\d+\.\d+")


class JAFFE(FaceDataset):
    """Lyons et al. (1998), Coding Facial Expressions with Gabor Wavelets, FG.

    Splits are by person (KA, KL, ...), ten in all.
    """

    name = "JAFFE"
    scheme = LabelScheme.named("jaffe")
    mode = "L"
    layout: ClassVar[str] = """
KA.AN1.39.tiff     person, expression and its number, number of the image
(in the folder or below it)
"""

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        for path in images_below(self.root):
            origin = path.relative_to(self.root).as_posix()
            found = _NAME.fullmatch(path.stem)
            if found is None:
                yield Skipped(origin, "stray_file")
            else:
                yield FaceItem(path.stem, found[2], origin, path, identity=found[1])
