"""The one path from samples to samples: image and label change together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from expraug.cache import image_digest
from expraug.errors import AmbiguousLabelError, NoFaceError, RejectedError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array, as_given, check_mode
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
        outcome: None where nothing was asked of the augmenter.
        request: what was asked; None if nothing was.
    """

    image: Any
    label: Any
    outcome: Outcome | None
    request: SynthesisRequest | None


class _Asked(NamedTuple):
    """A sample of which something is asked."""

    position: int
    source: Expression
    pixels: np.ndarray
    digest: bytes
    request: SynthesisRequest


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
        pixels per side), the gate rejects, the image's mode cannot hold the change (1-bit), or the
        label is soft without majority, image and label are as they were; the augmenter's `stats`
        count the reasons.

    Raises:
        LabelError: a label that cannot be right: outside the scheme, 4.7, True, several indices.
        ValueError: an image that cannot be right, as floats outside [0, 1] or NaN.
        CacheMissError: as the augmenter does.
    """
    results = [AugmentedSample(i, lb, None, None) for i, lb in zip(images, labels, strict=True)]
    asked = _asked_of(augmenter, scheme, images, labels, sample_request, wanted)
    outcomes = augmenter(
        [sample.pixels for sample in asked],
        [sample.request for sample in asked],
        digests=[sample.digest for sample in asked],
    )
    for (i, _, pixels, _, request), outcome in zip(asked, outcomes, strict=True):
        image, label = images[i], labels[i]
        if outcome.target is not None:
            try:
                image = as_given(outcome.image, pixels, image)
                label = write_label(label, scheme, outcome.target)
            except RejectedError as error:  # a palette without the colours
                augmenter.stats[error.reason] += 1
                outcome = Outcome(pixels, None, error.reason, outcome.scores, outcome.cached)
        results[i] = AugmentedSample(image, label, outcome, request)
    return results


class SampleClip(NamedTuple):
    """The clip of a sample, and its label.

    Args:
        frames: in the form of the image that they were made from; None where none was made.
        label: of the last frame; the very object that was given where no clip was made.
    """

    frames: list[Any] | None
    label: Any


def clips_of_samples(
    augmenter: ExpressionAugmenter,
    scheme: LabelScheme,
    images: Sequence[Any],
    labels: Sequence[Any],
    sample_request: SampleRequest,
    *,
    frames: int,
    wanted: Sequence[bool] | None = None,
) -> list[SampleClip]:
    """Turn faces into clips that rise to the full expression, as `augment_samples` takes them.

    Args:
        augmenter, scheme, images, labels, sample_request, wanted: see there. The intensity of a
            request is not looked at.
        frames: of each clip, at least 2.
    """
    results = [SampleClip(None, label) for _, label in zip(images, labels, strict=True)]
    asked = _asked_of(augmenter, scheme, images, labels, sample_request, wanted)
    for i, source, pixels, _, request in asked:
        try:
            clip = augmenter.clip(pixels, source, request.target, frames, variant=request.variant)
        except (NoFaceError, RejectedError):  # counted by the augmenter
            continue
        made = clip.transpose(0, 2, 3, 1).reshape(frames, *pixels.shape)
        try:
            given = [as_given(frame, pixels, images[i]) for frame in made]
        except RejectedError as error:  # a palette without the colours
            augmenter.stats[error.reason] += 1
            continue
        results[i] = SampleClip(given, write_label(labels[i], scheme, request.target))
    return results


def request_of_sample(
    augmenter: ExpressionAugmenter,
    scheme: LabelScheme,
    image: Any,
    label: Any,
    sample_request: SampleRequest,
) -> SynthesisRequest | None:
    """Return what `augment_samples` would ask for one sample; it raises and counts as that does."""
    asked = _asked_of(augmenter, scheme, [image], [label], sample_request, None)
    return asked[0].request if asked else None


def _asked_of(
    augmenter: ExpressionAugmenter,
    scheme: LabelScheme,
    images: Sequence[Any],
    labels: Sequence[Any],
    sample_request: SampleRequest,
    wanted: Sequence[bool] | None,
) -> list[_Asked]:
    """Return the samples of which something is asked, and count why others are left alone."""
    asked: list[_Asked] = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        try:
            source = read_label(label, scheme)
            if source is None or (wanted is not None and not wanted[i]):
                continue
            check_mode(image)
            pixels = as_array(image)
        except (AmbiguousLabelError, RejectedError, UnreadableImageError) as error:
            augmenter.stats[error.reason] += 1
            continue
        digest = image_digest(pixels)
        request = sample_request(i, digest, source)
        if request is None or request.target not in scheme:
            continue
        if request.target in augmenter.available(source):
            asked.append(_Asked(i, source, pixels, digest, request))
    return asked
