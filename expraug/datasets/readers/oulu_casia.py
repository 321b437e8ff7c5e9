"""Oulu-CASIA NIR&VIS: 80 people's sequences from the neutral face to the apex."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from expraug.datasets.readers.clip import Clip
from expraug.datasets.readers.face_dataset import FaceDataset
from expraug.datasets.readers.layout import MISSING, Skipped, first_there, folders_in, images_in
from expraug.expressions import LabelScheme

_BASES = ("", "OriginalImg/", "B_OriginalImg/", "B_OriginalImg/OriginalImg/", "PreProcess_Img/")


class OuluCASIA(FaceDataset):
    """Zhao et al. (2011), Facial expression recognition from near-infrared videos, Image and Vision
    Computing 29(9).

    The first frame of a sequence is neutral, the last shows the expression. Splits are by person
    (P001 to P080). Original images are taken before the cropped ones, where both are there.

    Args:
        root: the data set's folder.
        spectrum: "VL", visible light, or "NI", near infrared.
        lighting: "Strong" (the usual protocol, with VL), "Weak" or "Dark".
        split, kwargs: as `FaceDataset` takes them.
    """

    name = "Oulu-CASIA"
    scheme = LabelScheme.named("oulu-casia")
    layout: ClassVar[str] = """
VL/Strong/P001/Anger/000.jpeg and on, with
       VL or NI (cropped: VL_Acropped, NI_Acropped), Strong, Weak or Dark, P001 to P080,
       Anger, Disgust, Fear, Happiness, Sadness or Surprise
(or in OriginalImg, B_OriginalImg, B_OriginalImg/OriginalImg, PreProcess_Img)
"""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        spectrum: Literal["VL", "NI"] = "VL",
        lighting: Literal["Strong", "Weak", "Dark"] = "Strong",
        missing: Literal["error", "skip"] = "error",
        **kwargs: Any,
    ) -> None:
        if spectrum not in ("VL", "NI") or lighting not in ("Strong", "Weak", "Dark"):
            raise ValueError(
                f"spectrum is VL or NI and lighting Strong, Weak or Dark, not {spectrum!r} and "
                f"{lighting!r}"
            )
        self.spectrum = spectrum
        self.lighting = lighting
        super().__init__(root, split, missing=missing, **kwargs)

    def list_items(self) -> Iterator[Clip | Skipped]:
        names = (self.spectrum, f"{self.spectrum}_Acropped")
        tries = [f"{base}{name}/{self.lighting}" for base in _BASES for name in names]
        folder = first_there(self.root, *tries)
        if folder is None:
            raise self.layout_error(f"no folder {self.spectrum}/{self.lighting}")
        for person in folders_in(folder):
            for expression in folders_in(person):
                origin = expression.relative_to(self.root).as_posix()
                frames = images_in(expression)
                if expression.name not in self.classes:
                    yield Skipped(origin, "stray_file")
                elif not frames:
                    yield Skipped(origin, MISSING)
                else:
                    stem = f"{person.name}_{expression.name}"
                    apex = len(frames) - 1
                    yield Clip(stem, expression.name, origin, tuple(frames), person.name, apex)
