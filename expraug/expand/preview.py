"""`preview`: what a synthesizer makes of a set's faces, at one glance."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image

from expraug.augmenter import ExpressionAugmenter
from expraug.errors import NoFaceError
from expraug.expand.checks import check_device, open_face_set
from expraug.expand.contact_sheet import contact_sheet
from expraug.expand.plan import Plan, SchemeLike
from expraug.expand.writing import write_file
from expraug.faces.image import MAX_PIXELS
from expraug.faces.locate import Locator
from expraug.synthesizer import Synthesizer


def preview(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    synthesizer: str | Synthesizer = "auto",
    faces_shown: int = 8,
    intensity: float = 1.0,
    scheme: SchemeLike | None = None,
    faces: str | Locator = "detect",
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Write a contact sheet: a row for each face, its source first, then a column for each target.

    The faces are spread evenly over the set and shown as aligned crops of 160 pixels. A target that
    cannot be made of a source leaves its cell empty. No gate judges the faces.

    Args:
        source, synthesizer, scheme, faces, device, max_pixels: as `expand` takes them.
        out: the picture; its suffix says the format.
        faces_shown: rows at most, from 1.
        intensity: in [0.01, 1].

    Returns:
        The number of faces shown.

    Raises:
        NoFaceError: no image of the set shows a face of which anything can be made.
        SourceError, LabelError, MissingWeightsError, MissingDependencyError, DeviceError, OSError:
            as `expand` does.
        ValueError: an argument out of range, or a suffix that is no picture format.
    """
    if faces_shown < 1:
        raise ValueError(f"faces_shown must be at least 1, not {faces_shown}")
    path = Path(out)
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{path}: no picture format is called {path.suffix!r}; use .png")
    face_set = open_face_set(source)
    check_device(device)
    augmenter = ExpressionAugmenter(synthesizer, faces=faces, device=device)
    plan = Plan.create(augmenter, face_set.classes, scheme=scheme, intensity=intensity)
    sheet, count = contact_sheet(face_set, plan, augmenter, faces_shown, max_pixels=max_pixels)
    if sheet is None:
        raise NoFaceError(
            f"no image of {source} shows a face that {augmenter.synthesizer.name!r} can make "
            f"anything of; for images that are face crops already, use faces='crop' (--faces crop)"
        )
    picture = BytesIO()
    sheet.save(picture, Image.registered_extensions()[path.suffix.lower()])
    write_file(path, picture.getvalue())
    return count
