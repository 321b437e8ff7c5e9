"""KDEF, Karolinska Directed Emotional Faces: 70 actors, seven expressions, five angles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from expraug.datasets.readers.face_dataset import FaceDataset
from expraug.datasets.readers.layout import Skipped, images_below
from expraug.datasets.source import FaceItem
from expraug.expressions import LabelScheme

ANGLES = ("FL", "HL", "S", "HR", "FR")
_NAME = re.compile(r"[AB]([FM]\d\d)(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)", re.IGNORECASE)


class KDEF(FaceDataset):
    """Lundqvist, Flykt & Öhman (1998), The Karolinska Directed Emotional Faces.

    Splits are by person: sessions A and B show the same people, so that AF01 and BF01 are both
    "F01". The averaged faces of AKDEF, which show no one, are skipped as stray files.

    Args:
        root: the data set's folder.
        angles: which are wanted: full left profile FL, half left HL, straight S, HR, FR. Profiles
            hide half of the face; most work on expression takes ("S",) or ("HL", "S", "HR").
        split, kwargs: as `FaceDataset` takes them.
    """

    name = "KDEF"
    scheme = LabelScheme.named("kdef")
    layout: ClassVar[str] = """
AF01/AF01AFS.JPG   session A or B, sex F or M, person 01 to 35, expression, angle
(in the folder or below it)
"""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        angles: Sequence[str] = ANGLES,
        missing: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        if unknown := set(angles) - set(ANGLES):
            raise ValueError(f"angles are {', '.join(ANGLES)}, not {', '.join(sorted(unknown))}")
        self.angles = tuple(angles)
        super().__init__(root, split, missing=missing, **kwargs)

    def list_items(self) -> Iterator[FaceItem | Skipped]:
        for path in images_below(self.root):
            origin = path.relative_to(self.root).as_posix()
            found = _NAME.fullmatch(path.stem)
            if found is None:
                yield Skipped(origin, "stray_file")
                continue
            person, expression, angle = (part.upper() for part in found.groups())
            if angle in self.angles:
                yield FaceItem(path.stem, expression, origin, path, identity=person)
