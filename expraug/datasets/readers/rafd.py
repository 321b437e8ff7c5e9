"""RaFD, Radboud Faces Database: 67 people, eight expressions, five cameras, three gazes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from expraug.datasets.readers.face_dataset import FaceDataset
from expraug.datasets.readers.layout import Skipped, images_below
from expraug.datasets.source import FaceItem
from expraug.expressions import LabelScheme

ANGLES = (0, 45, 90, 135, 180)
_NAME = re.compile(r"Rafd(\d{3})_(\d\d)_([A-Za-z]+)_([a-z]+)_([a-z]+)_(frontal|left|right)")


class RaFD(FaceDataset):
    """Langner et al. (2010), Presentation and validation of the Radboud Faces Database, Cognition &
    Emotion 24(8).

    Splits are by person.

    Args:
        root: the data set's folder.
        angles: which cameras are wanted, in degrees: 90 is frontal, 0 and 180 are profiles.
        split, kwargs: as `FaceDataset` takes them.
    """

    name = "RaFD"
    scheme = LabelScheme.named("rafd")
    layout: ClassVar[str] = """
Rafd090_01_Caucasian_female_angry_frontal.jpg   camera, person, group, sex, expression, gaze
(in the folder or below it)
"""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        angles: Sequence[int] = ANGLES,
        missing: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        if unknown := set(angles) - set(ANGLES):
            raise ValueError(f"angles are {ANGLES}, not {sorted(unknown)}")
        self.angles = tuple(angles)
        super().__init__(root, split, missing=missing, **kwargs)

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        for path in images_below(self.root):
            origin = path.relative_to(self.root).as_posix()
            found = _NAME.fullmatch(path.stem)
            if found is None or found[5] not in self.classes:
                yield Skipped(origin, "stray_file")
            elif int(found[1]) in self.angles:
                yield FaceItem(path.stem, found[5], origin, path, identity=found[2])
