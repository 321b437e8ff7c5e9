"""MUG, Multimedia Understanding Group: clips from the neutral face to the apex and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from expraug.datasets.readers.clip import Clip
from expraug.datasets.readers.face_dataset import FaceDataset
from expraug.datasets.readers.layout import MISSING, Skipped, first_there, folders_in, images_in
from expraug.expressions import Expression, LabelScheme


class MUG(FaceDataset):
    """Aifanti, Papachristou & Delopoulos (2010), The MUG Facial Expression Database, WIAMIS.

    A clip starts and ends with the neutral face, so that its first frame is neutral and its apex
    is taken to be the middle one. Clips of the class neutral give their middle frame alone. Splits
    are by person. What is no expression, such as the clips of mixed ones, is skipped as stray.
    """

    name = "MUG"
    scheme = LabelScheme.named("mug")
    layout: ClassVar[str] = """
001/anger/take000/img_0000.jpg and on, with
       person, anger, disgust, fear, happiness, neutral, sadness or surprise, take
       (some people have sessions: 002/session0/anger/take000)
(or in a folder subjects3/)
"""

    def list_items(self) -> Iterator[Clip | Skipped]:
        root = first_there(self.root, "subjects3") or self.root
        if not root.is_dir():
            raise self.layout_error("no such folder")
        for person in folders_in(root):
            if not person.name.isdecimal():
                continue
            for folder in folders_in(person):
                if folder.name.startswith("session"):
                    for expression in folders_in(folder):
                        yield from self._clips(person, expression)
                else:
                    yield from self._clips(person, folder)

    def _clips(self, person: Path, expression: Path) -> Iterator[Clip | Skipped]:
        if expression.name not in self.classes:
            yield Skipped(expression.relative_to(self.root).as_posix(), "stray_file")
            return
        neutral = expression.name == self.scheme.class_name(Expression.NEUTRAL)
        for take in folders_in(expression):
            frames = images_in(take)
            origin = take.relative_to(self.root).as_posix()
            if not frames:
                yield Skipped(origin, MISSING)
                continue
            yield Clip(
                "_".join(take.relative_to(person.parent).parts),
                expression.name,
                origin,
                tuple(frames),
                person.name,
                apex=len(frames) // 2,
                starts_neutral=not neutral,
            )
