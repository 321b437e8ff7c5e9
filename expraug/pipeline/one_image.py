"""The shortest way: one image, one label, one target."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from expraug.errors import failure
from expraug.expressions import Expression
from expraug.faces.detect import Detector
from expraug.faces.image import as_array, as_given, read_image
from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.requests import SynthesisRequest
from expraug.synthesizer import AUTO, Synthesizer


def augment(
    image: Any,
    source: Expression | str | None,
    target: Expression | str,
    *,
    intensity: float = 1.0,
    variant: int = 0,
    synthesizer: str | Synthesizer = AUTO,
    alignment: str | Detector = "crop",
    device: str = "cpu",
) -> Any:
    """Return an image with another expression.

    Args:
        image: path of a file, PIL image, (H, W) or (H, W, 1 or 3) array, or (1 or 3, H, W) tensor;
            uint8, or float in [0, 1].
        source: what the face shows; None if that is not known.
        target: what it is to show.
        intensity: in [0.01, 1].
        variant: of the synthesizer's `variants`, counted from 0.
        synthesizer: as `create_synthesizer` takes it, or one.
        alignment: "crop" for face crops, "detect" for photographs, or a `Detector`.
        device: where all of it runs.

    Returns:
        The image in the form it came in; of a path, a PIL image.

    Raises:
        NoFaceError: no face was found.
        RejectedError: what was made may not be used; `reason` says why.
        UnsupportedExpressionError: the synthesizer cannot make the target, or not of the source.
        UnreadableImageError, LabelError, MissingWeightsError, MissingDependencyError: a file that
            is no image, no such expression, no such synthesizer, or what it needs is not installed.
        ValueError: an argument out of range, or an image of another kind.

    Example:
        >>> smiling = augment("examples/faces/neutral/london_008.jpg", "neutral", "happy")
        >>> smiling.size
        (256, 256)
    """
    if isinstance(image, (str, os.PathLike)):
        array = read_image(Path(image))
        image = Image.fromarray(array)
    else:
        array = as_array(image)
    if isinstance(synthesizer, str) and isinstance(alignment, str):
        augmenter = _augmenter(synthesizer, alignment, device)
    else:
        augmenter = ExpressionAugmenter(synthesizer, alignment=alignment, device=device)
    shown = None if source is None else Expression.parse(source)
    request = SynthesisRequest(Expression.parse(target), intensity, variant)
    augmenter.require([request.target], shown, variant)
    (outcome,) = augmenter([array], [request])
    if outcome.reason:
        raise failure(outcome.reason, outcome.scores, str(request.target), array.shape)
    return as_given(outcome.image, array, image)


@lru_cache(maxsize=4)  # loading a synthesizer takes longer than using it once
def _augmenter(synthesizer: str, alignment: str, device: str) -> ExpressionAugmenter:
    return ExpressionAugmenter(synthesizer, alignment=alignment, device=device)
