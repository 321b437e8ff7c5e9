"""CK+, the Extended Cohn-Kanade set: sequences from the neutral face to the apex."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from expraug.datasets.readers.clip import Clip
from expraug.datasets.readers.face_dataset import FaceDataset, numbered
from expraug.datasets.readers.layout import MISSING, Skipped, first_there, images_in
from expraug.expressions import LabelScheme


class CKPlus(FaceDataset):
    """Lucey et al. (2010), The Extended Cohn-Kanade Dataset (CK+), CVPR Workshops.

    Of 593 sequences the 327 that have an emotion file are read: the first frame is neutral, the
    last shows the emotion. Emotions are numbered from 1 (0 would be neutral), contempt is 2.
    Splits are by person (S005, ...); 118 of the 123 have such a sequence.
    """

    name = "CK+"
    scheme = LabelScheme.named("ck+")
    layout: ClassVar[str] = """
cohn-kanade-images/S005/001/S005_001_00000001.png and on
Emotion/S005/001/S005_001_00000011_emotion.txt     "3.0000000e+00"
(or extended-cohn-kanade-images/cohn-kanade-images, Emotion_labels/Emotion)
"""

    def list_items(self) -> Iterator[Clip | Skipped]:
        images = first_there(
            self.root, "cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images"
        )
        emotions = first_there(self.root, "Emotion", "Emotion_labels/Emotion")
        if images is None or emotions is None:
            raise self.layout_error(
                "no folder cohn-kanade-images" if images is None else "no folder Emotion"
            )
        for path in sorted(emotions.glob("*/*/*_emotion.txt")):
            origin = path.relative_to(self.root).as_posix()
            class_name = numbered(self.classes, path.read_text(errors="replace"))
            if class_name is None:
                yield Skipped(origin, "damaged_annotation")
                continue
            person, sequence = path.parts[-3:-1]
            folder = images / person / sequence
            frames = images_in(folder)
            where = folder.relative_to(self.root).as_posix()
            if not frames:
                yield Skipped(where, MISSING)
                continue
            stem = f"{person}_{sequence}"
            yield Clip(stem, class_name, where, tuple(frames), person, apex=len(frames) - 1)
