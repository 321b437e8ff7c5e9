"""The one path from samples to samples: image and label change together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expraug.cache import image_digest
from expraug.errors import AmbiguousLabelError, NoFaceError, RejectedError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array, as_given, batch_as_given, batch_pixels, check_mode
from expraug.labels import read_label, write_label
from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.requests import Outcome, SynthesisRequest
from expraug.pipeline.synthetic import batch_digests

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


class _Seen(NamedTuple):
    """A sample that is worked on."""

    position: int
    source: Expression
    pixels: Any  # `expraug.faces.pixels.Pixels`
    digest: bytes


class _Asked(NamedTuple):
    """A sample of which something is asked."""

    position: int
    source: Expression
    pixels: Any
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


def augment_batch(
    augmenter: ExpressionAugmenter,
    scheme: LabelScheme,
    images: Tensor,
    labels: Sequence[Any],
    sample_request: SampleRequest,
    *,
    wanted: Sequence[bool] | None = None,
) -> tuple[Tensor, list[Any]]:
    """Do for a batch that stays on its device what `augment_samples` does, to the same bytes.

    The pixels of the images that are worked on are copied to the host once, for their digests, by
    which menu and cache know an image through every door. Besides them only landmarks and scores
    cross; faces that are cached are copied to the device as patches.

    Args:
        augmenter, scheme, labels, sample_request, wanted: see there.
        images: (B, 1 or 3, H, W), uint8 or float in [0, 1], on any device.

    Returns:
        (B, 1 or 3, H, W) of the same type there, with the bytes that came in where nothing was
        changed, and the labels; the very batch where that goes for all images.
    """
    made = list(labels)
    sources = _sources_of(augmenter, scheme, labels, wanted)
    if not sources:
        return images, made
    rows = torch.tensor([i for i, _ in sources], device=images.device)
    try:
        pixels = batch_pixels(images[rows])
    except UnreadableImageError as error:
        augmenter.stats[error.reason] += len(sources)
        return images, made
    seen = [
        _Seen(i, source, row, digest)
        for (i, source), row, digest in zip(sources, pixels, batch_digests(pixels), strict=True)
    ]
    asked = _requested(augmenter, scheme, seen, sample_request)
    outcomes = augmenter(
        [sample.pixels for sample in asked],
        [sample.request for sample in asked],
        digests=[sample.digest for sample in asked],
    )
    changed = [(s, o) for s, o in zip(asked, outcomes, strict=True) if o.target is not None]
    if not changed:
        return images, made
    rows = torch.tensor([sample.position for sample, _ in changed], device=images.device)
    new = torch.stack([outcome.image for _, outcome in changed])
    old = torch.stack([sample.pixels for sample, _ in changed])
    batch = images.clone()
    batch[rows] = batch_as_given(new, old, images[rows])
    for sample, outcome in changed:
        assert outcome.target is not None
        made[sample.position] = write_label(labels[sample.position], scheme, outcome.target)
    return batch, made


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
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels")
    seen: list[_Seen] = []
    for i, source in _sources_of(augmenter, scheme, labels, wanted):
        try:
            check_mode(images[i])
            pixels = as_array(images[i])
        except (RejectedError, UnreadableImageError) as error:
            augmenter.stats[error.reason] += 1
            continue
        seen.append(_Seen(i, source, pixels, image_digest(pixels)))
    return _requested(augmenter, scheme, seen, sample_request)


def _sources_of(
    augmenter: ExpressionAugmenter,
    scheme: LabelScheme,
    labels: Sequence[Any],
    wanted: Sequence[bool] | None,
) -> list[tuple[int, Expression]]:
    """Return the samples that are worked on, and what they show, and count why others are not."""
    sources: list[tuple[int, Expression]] = []
    for i, label in enumerate(labels):
        try:
            source = read_label(label, scheme)
        except AmbiguousLabelError as error:
            augmenter.stats[error.reason] += 1
            continue
        if source is not None and (wanted is None or wanted[i]):
            sources.append((i, source))
    return sources


def _requested(
    augmenter: ExpressionAugmenter,
    scheme: LabelScheme,
    seen: Iterable[_Seen],
    sample_request: SampleRequest,
) -> list[_Asked]:
    """Return the samples of which something is asked that can be made."""
    asked: list[_Asked] = []
    for sample in seen:
        request = sample_request(sample.position, sample.digest, sample.source)
        if request is None or request.target not in scheme:
            continue
        if request.target in augmenter.available(sample.source):
            asked.append(_Asked(*sample, request))
    return asked
