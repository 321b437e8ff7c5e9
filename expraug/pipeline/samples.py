"""The one path from samples to samples: image and label change together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from expraug.cache import image_digest
from expraug.errors import AmbiguousLabelError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array, as_given
from expraug.labels import read_label, write_label
from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.requests import Outcome, SynthesisRequest

SampleRequest = Callable[[int, bytes, Expression], SynthesisRequest | None]
"""Decides on the request of a sample, from its position, its image's digest and what it shows."""


class AugmentedSample(NamedTuple):
    """Image and label of a sample, and what became of it.

    Args:
        image, label: changed together, in the form they came in; the very objects that were given
            where nothing was changed.
        outcome: None where the image was not looked at.
        request: what was asked; None if nothing was.
    """

    image: Any
    label: Any
    outcome: Outcome | None
    request: SynthesisRequest | None


def augment_samples(
    augmenter: ExpressionAugmenter,
    scheme: LabelScheme,
    images: Sequence[Any],
    labels: Sequence[Any],
    sample_request: SampleRequest,
    *,
    wanted: Sequence[bool] | None = None,
) -> list[AugmentedSample]:
    """Give faces another expression, and their labels with them.

    Args:
        augmenter: makes the faces.
        scheme: what the labels mean.
        images: as `expraug.faces.image.as_array` takes them.
        labels: as `expraug.labels.read_label` takes them.
        sample_request: see `SampleRequest`. A request that the synthesizer cannot carry out on a
            face, or of an expression that the scheme has no class for, leaves the sample alone.
        wanted: samples that are worked on at all; the images of others are not looked at.

    Returns:
        One for each sample. Where nothing is asked for, no face is found (or could be, under 16
        pixels per side), the gate rejects, or the label is soft without majority, image and label
        are as they were; the augmenter's `stats` count the reasons.

    Raises:
        LabelError: a label that cannot be right: outside the scheme, 4.7, True, several indices.
        ValueError: an image that cannot be right, as floats outside [0, 1] or NaN.
        CacheMissError: as the augmenter does.
    """
    results = [AugmentedSample(i, lb, None, None) for i, lb in zip(images, labels, strict=True)]
    arrays: dict[int, np.ndarray] = {}
    asked: list[SynthesisRequest] = []
    digests: list[bytes] = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        try:
            source = read_label(label, scheme)
            if source is None or (wanted is not None and not wanted[i]):
                continue
            array = as_array(image)
        except (AmbiguousLabelError, UnreadableImageError) as error:
            augmenter.stats[error.reason] += 1
            continue
        digest = image_digest(array)
        request = sample_request(i, digest, source)
        if request is None or request.target not in scheme:
            continue
        if not augmenter.synthesizer.supports(source, request.target):
            continue
        arrays[i] = array
        asked.append(request)
        digests.append(digest)
    outcomes = augmenter(list(arrays.values()), asked, digests=digests)
    for (i, array), request, outcome in zip(arrays.items(), asked, outcomes, strict=True):
        image, label = images[i], labels[i]
        if outcome.target is not None:
            image = as_given(outcome.image, array, image)
            label = write_label(label, scheme, outcome.target)
        results[i] = AugmentedSample(image, label, outcome, request)
    return results
