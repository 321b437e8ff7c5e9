"""The shortest way: one image, one label, one target."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from expraug.errors import NoFaceError, failure, warn
from expraug.expressions import Expression
from expraug.faces.detect import DetectedFace, Detector, KnownFaceDetector, all_faces
from expraug.faces.image import as_array, as_given, read_image
from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.guess import warn_of_source
from expraug.pipeline.requests import Outcome, SynthesisRequest
from expraug.synthesizer import AUTO, Synthesizer


def augment(
    image: Any,
    source: Expression | str | None,
    target: Expression | str,
    *,
    intensity: float = 1.0,
    variant: int = 0,
    synthesizer: str | Synthesizer = AUTO,
    face: int | Literal["all"] | None = None,
    alignment: str | Detector = "crop",
    device: str = "cpu",
) -> Any:
    """Return an image with another expression: of its largest face, unless `face` says otherwise.

    Args:
        image: path of a file, PIL image, (H, W) or (H, W, 1 or 3) array, or (1 or 3, H, W) tensor;
            uint8, or float in [0, 1].
        source: what the face shows, or all that are changed; None if that is not known.
        target: what it is to show.
        intensity: in [0.01, 1].
        variant: of the synthesizer's `variants`, counted from 0.
        synthesizer: as `create_synthesizer` takes it, or one.
        face: of several in the image, the one to change: 0 for the largest, 1 for the next, in the
            order of `expraug.detect_faces`; "all" for all of them. None: the largest, with a
            warning where there are several.
        alignment: "crop" for face crops, "detect" for photographs, or a `Detector`.
        device: where all of it runs.

    Returns:
        The image in the form it came in; of a path, a PIL image. With face="all", faces of which
        what was made may not be used stay as they are, and a warning names them.

    Raises:
        NoFaceError: no face was found, or none of that number.
        RejectedError: what was made may not be used; `reason` says why.
        UnsupportedExpressionError: the synthesizer cannot make the target, or not of the source.
        UnreadableImageError, LabelError, MissingWeightsError, MissingDependencyError: a file that
            is no image, no such expression, no such synthesizer, or what it needs is not installed.
        ValueError: an argument out of range, or an image of another kind.

    Examples:
        >>> smiling = augment("examples/faces/neutral/london_008.jpg", "neutral", "happy")
        >>> smiling.size
        (256, 256)
    """
    if isinstance(image, (str, os.PathLike)):
        array = read_image(Path(image))
        image = Image.fromarray(array)
    else:
        array = as_array(image)
    if face not in (None, "all") and not (type(face) is int and face >= 0):
        raise ValueError(f"face must be 0 or more, 'all' or None, not {face!r}")
    if isinstance(synthesizer, str) and isinstance(alignment, str):
        augmenter = _augmenter(synthesizer, alignment, device)
    else:
        augmenter = ExpressionAugmenter(synthesizer, alignment=alignment, device=device)
    shown = None if source is None else Expression.parse(source)
    request = SynthesisRequest(Expression.parse(target), intensity, variant)
    augmenter.require([request.target], shown, variant)
    if shown is None:
        warn_of_source(augmenter, array, request.target)
    changed, outcomes = array, dict[int, Outcome]()
    for number, there in chosen_faces(augmenter, array, face).items():
        outcomes[number] = _change(augmenter, changed, there, request)
        changed = outcomes[number].image
    kept = {number: outcome.reason for number, outcome in outcomes.items() if outcome.reason}
    if len(kept) == len(outcomes):
        first = next(iter(outcomes.values()))
        raise failure(first.reason, first.scores, str(request.target), array.shape)
    if kept:
        told = ", ".join(f"{number} ({reason})" for number, reason in kept.items())
        warn(f"of {len(outcomes)} faces these were not made {request.target}: {told}")
    return as_given(changed, array, image)


def chosen_faces(
    augmenter: ExpressionAugmenter, image: np.ndarray, face: int | Literal["all"] | None
) -> dict[int, DetectedFace]:
    """Return the faces of an image that are to be changed, by their number.

    Args:
        augmenter: its detector looks for them.
        image: (H, W) or (H, W, 3) uint8.
        face: as `augment` takes it.

    Raises:
        NoFaceError: there is none, or none of that number.
    """
    (faces,) = all_faces(augmenter.detector, [image])
    if not faces:
        raise failure(NoFaceError.reason, {}, "", image.shape)
    if face == "all":
        return dict(enumerate(faces))
    if face is None and len(faces) > 1:
        others = "the other with face=1" if len(faces) == 2 else "others with face=1, 2, ..."
        warn(
            f"the image holds {len(faces)} faces: the largest is changed; choose it with face=0 "
            f"(--face 0), {others}, and all with face='all'"
        )
    number = face or 0
    if number >= len(faces):
        raise NoFaceError(
            f"no face {number}: the image holds {len(faces)}, counted from 0, the largest first"
        )
    return {number: faces[number]}


def _change(
    augmenter: ExpressionAugmenter,
    image: np.ndarray,
    face: DetectedFace,
    request: SynthesisRequest,
) -> Outcome:
    there = ExpressionAugmenter(
        augmenter.synthesizer, alignment=KnownFaceDetector(face), device=augmenter.device
    )
    (outcome,) = there([image], [request])
    return outcome


@lru_cache(maxsize=4)  # loading a synthesizer takes longer than using it once
def _augmenter(synthesizer: str, alignment: str, device: str) -> ExpressionAugmenter:
    return ExpressionAugmenter(synthesizer, alignment=alignment, device=device)
