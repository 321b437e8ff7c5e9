"""What a face seems to show, where nobody says it and a synthesizer must not be given just any."""

from __future__ import annotations

from functools import cache

import numpy as np

from expraug.errors import warn
from expraug.expressions import Expression
from expraug.faces.align import align_image
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.pipeline.augmenter import ExpressionAugmenter

_SURE = 0.9
_SIDE = 128


def warn_of_source(augmenter: ExpressionAugmenter, image: np.ndarray, target: Expression) -> None:
    """Warn where a face seems to show what the synthesizer cannot make the target of.

    Args:
        augmenter: finds the face; it holds the synthesizer.
        image: (H, W) or (H, W, 3) uint8, of which nobody says what its face shows.
        target: what it is to show.
    """
    model = augmenter.synthesizer
    unfit = {e for e in Expression if e != target and not model.supports(e, target)}
    if not unfit or (face := augmenter.detect([image])[0]) is None:
        return
    classifier = _classifier()
    aligned = align_image(image, face.points, _SIDE)[None] / 255
    probabilities = classifier.probabilities(aligned)[0]
    shown = classifier.expressions[int(probabilities.argmax())]
    if shown in unfit and float(probabilities.max()) > _SURE:
        fit = ", ".join(str(e) for e in Expression if model.supports(e, target)) or "nothing"
        warn(
            f"the face seems to show {shown}, but {model.name!r} makes {target} of {fit}: the "
            f"result may be neither; say what it shows (source=, --shows) to be sure, or take "
            f"another synthesizer"
        )


@cache
def _classifier() -> FERNet:
    return load_fer_classifier()
