"""`preview`: what a synthesizer makes of a set's faces, at one glance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from expraug.datasets.source import FaceSource
from expraug.errors import NoFaceError, RejectedError
from expraug.expand.checks import open_face_set
from expraug.expand.contact_sheet import Crops, contact_sheet, crop, draw_sheet, shown_faces
from expraug.expand.options import SchemeLike
from expraug.expand.plan import Job, Plan
from expraug.expressions import Expression
from expraug.faces.clip_file import check_suffix, write_clip
from expraug.faces.detect import DetectedFace, Detector, KnownFaceDetector
from expraug.faces.image import MAX_PIXELS, read_image
from expraug.faces.image_file import write_file
from expraug.pipeline import ExpressionAugmenter
from expraug.pipeline.device import existing_device
from expraug.pipeline.memo import MemoizedDetector
from expraug.pipeline.one_image import chosen_faces
from expraug.synthesizer import Synthesizer


def preview(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    synthesizer: str | Synthesizer = "auto",
    faces_shown: int = 8,
    intensity: float = 1.0,
    scheme: SchemeLike | None = None,
    shows: Expression | str | None = None,
    alignment: str | Detector = "crop",
    check_landmarks: bool = True,
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Write a contact sheet: a row for each face, its source first, then a column for each target.

    The faces are spread evenly over the set and shown as aligned crops of 160 pixels. A target that
    cannot be made of a source leaves its cell empty, and so does a face that is refused. No
    identity gate scores the faces.

    Args:
        source, synthesizer, scheme, shows, alignment, check_landmarks, device, max_pixels: as
            `expand` takes them.
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
    face_set = open_face_set(source, shows)
    existing_device(device)
    augmenter = ExpressionAugmenter(
        synthesizer, alignment=alignment, check_landmarks=check_landmarks, device=device
    )
    everything = augmenter.synthesizer.expressions
    plan = Plan.create(
        augmenter, face_set.classes, scheme=scheme, targets=everything, intensity=intensity
    )
    sheet, count = contact_sheet(face_set, plan, augmenter, faces_shown, max_pixels=max_pixels)
    if sheet is None:
        raise _nothing_to_show(source, augmenter)
    picture = BytesIO()
    sheet.save(picture, Image.registered_extensions()[path.suffix.lower()])
    write_file(path, picture.getvalue())
    return count


def preview_clip(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    targets: Sequence[Expression | str] | None,
    *,
    frames: int = 16,
    fps: float = 15.0,
    shows: Expression | str | None = None,
    face: int | None = None,
    synthesizer: str | Synthesizer = "auto",
    faces_shown: int = 8,
    scheme: SchemeLike | None = None,
    alignment: str | Detector = "crop",
    check_landmarks: bool = True,
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Write a clip: of an image, the whole image in motion; of a set, a contact sheet in motion.

    The sheet is that of `preview`, with the clip of each target in its column.

    Args:
        source: an image file, or a set as `preview` takes it.
        out: the file; `expraug.faces.clip_file.write_clip` says what its suffix may be.
        targets: expressions to make, one for an image; None: all that can be made.
        frames: of the clip, at least 2.
        fps: frames per second.
        shows: what the face of an image shows, which some synthesizers must know; or what all faces
            of a folder without classes show.
        face: of several in an image, the one in motion: 0 for the largest, 1 for the next. None:
            the largest, with a warning where there are several.
        synthesizer, faces_shown, scheme, alignment, check_landmarks, device, max_pixels: as
            `preview` takes them.

    Returns:
        The number of faces shown.

    Raises:
        NoFaceError: no face of which anything can be made, or none of that number.
        UnsupportedExpressionError: a target that the synthesizer does not have, or cannot make of
            what the image shows.
        RejectedError: the clip of an image may not be used; in a sheet its cell stays empty.
        UnreadableImageError, SourceError, LabelError, MissingWeightsError, MissingDependencyError,
        DeviceError, OSError: as `preview` does; MissingDependencyError also for .mp4 without PyAV.
        ValueError: an argument out of range, more than one target for an image, or `face`
            for a set.
    """
    if faces_shown < 1:
        raise ValueError(f"faces_shown must be at least 1, not {faces_shown}")
    if frames < 2:
        raise ValueError(f"a clip has at least 2 frames, not {frames}")
    path = Path(out)
    check_suffix(path)
    existing_device(device)
    image = _image_at(Path(source), max_pixels)
    if image is not None and (targets is None or len(targets) != 1):
        raise ValueError(f"{source}: the clip of one image has one target; name it, as happy")
    if image is None and face is not None:
        raise ValueError("`face` is for one image: of a set's images the largest face is shown")
    if face is not None and face < 0:
        raise ValueError(f"face must be 0 or more, not {face}")
    face_set = None if image is not None else open_face_set(source, shows)
    augmenter = ExpressionAugmenter(
        synthesizer, alignment=alignment, check_landmarks=check_landmarks, device=device
    )
    if targets is not None:
        augmenter.require([Expression.parse(target) for target in targets])
    if image is not None and targets is not None:
        (chosen,) = chosen_faces(augmenter, image, face).values()
        augmenter.detector = KnownFaceDetector(chosen)
        clip, count = augmenter.clip(image, shows, targets[0], frames), 1
    else:
        assert face_set is not None
        wanted = augmenter.synthesizer.expressions if targets is None else targets
        plan = Plan.create(augmenter, face_set.classes, scheme=scheme, targets=wanted)
        clip, count = _sheet_in_time(
            face_set, plan, augmenter, faces_shown, frames, max_pixels=max_pixels
        )
        if not count:
            raise _nothing_to_show(source, augmenter)
    write_clip(
        clip,
        path,
        fps=fps,
        fingerprint=augmenter.fingerprint.synthesizer,
        target="all" if targets is None else ", ".join(map(str, targets)),
        source=Path(source).stem,
    )
    return count


def _image_at(path: Path, max_pixels: int) -> np.ndarray | None:
    """Return the image at a path whose suffix says that it is one; None for a set of them."""
    if path.is_dir() or path.suffix.lower() not in Image.registered_extensions():
        return None
    return read_image(path, max_pixels=max_pixels)


def _sheet_in_time(
    face_set: FaceSource,
    plan: Plan,
    augmenter: ExpressionAugmenter,
    faces_shown: int,
    frames: int,
    *,
    max_pixels: int,
) -> tuple[np.ndarray, int]:
    """Return a contact sheet in motion, (T, 3, H, W) uint8, and the number of faces on it; without
    any, the sheet is empty."""
    augmenter.detector = MemoizedDetector(augmenter.detector)

    def show(
        augmenter: ExpressionAugmenter,
        image: np.ndarray,
        face: DetectedFace,
        job: Job,
    ) -> list[Crops]:
        shown = plan.expression_of[job.item.class_name]
        return _crops_in_time(augmenter, image, face, shown, job, frames)

    found = shown_faces(face_set, plan, augmenter, faces_shown, show, max_pixels=max_pixels)
    rows = sorted(found, key=lambda row: row.index)
    if not rows:
        return np.zeros((frames, 3, 0, 0), np.uint8), 0
    sheets = [np.asarray(draw_sheet(rows, k)) for k in range(frames)]
    return np.stack(sheets).transpose(0, 3, 1, 2), len(rows)


def _crops_in_time(
    augmenter: ExpressionAugmenter,
    image: np.ndarray,
    face: DetectedFace,
    source: Expression | None,
    job: Job,
    frames: int,
) -> list[Crops]:
    still = crop(image, face.points)
    crops: list[Crops] = [{None: still} for _ in range(frames)]
    for target in {request.target: None for request in job.requests}:
        try:
            made = augmenter.clip(image, source, target, frames).transpose(0, 2, 3, 1)
        except RejectedError:  # its cell stays empty
            continue
        for shown, picture in zip(crops, made, strict=True):
            shown[target] = crop(picture.reshape(image.shape), face.points)
    return crops


def _nothing_to_show(source: str | os.PathLike[str], augmenter: ExpressionAugmenter) -> NoFaceError:
    return NoFaceError(
        f"no image of {source} shows a face that {augmenter.synthesizer.name!r} can make "
        f"anything of; for images that are face crops already, use alignment='crop' (--alignment "
        f"crop), for photographs alignment='detect'"
    )
