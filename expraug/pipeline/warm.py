"""Synthesizing ahead of training, into the cache."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset, Subset

from expraug.cache import image_digest
from expraug.errors import ExpraugError, NoFaceError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array, check_size
from expraug.labels import SchemeLike, dataset_scheme, read_label, split_sample
from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.requests import SynthesisRequest

PILOT = 50
"""Images, spread over the data set, that are done first to tell how long the rest will take."""

_PILOT_SECONDS = 10
"""After so many the pilot tells what it knows, however few images that are."""


@dataclass
class WarmReport:
    """What `warm` did.

    Args:
        planned: synthetic faces that were to be there at the end, at most, as told at the start.
        estimate: seconds that all of it would take, as told after the first images; NaN if all
            was there.
        seconds: that it took.
        made: synthetic faces made now.
        cached: synthetic faces that were there already.
        skipped: by reason, how many *samples* were skipped whole, and how many synthetic faces
            cannot be used.
        failures: (index in the data set, reason, message) of each sample that was skipped.
        rejected: (index in the data set, request, reason) of each synthetic face that was asked
            for and cannot be used.
    """

    planned: int = 0
    estimate: float = float("nan")
    seconds: float = 0.0
    made: int = 0
    cached: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    rejected: list[tuple[int, SynthesisRequest, str]] = field(default_factory=list)


Requests = Callable[[int], Sequence[SynthesisRequest]]
"""What to make of a sample, by its index."""


def warm(
    augmenter: ExpressionAugmenter,
    dataset: Any,
    scheme: SchemeLike | None = None,
    *,
    num_workers: int = 0,
    progress: bool = True,
    requests: Requests | None = None,
) -> WarmReport:
    """Synthesize ahead, into the cache, all that a data set's images offer.

    That is `augmenter.per_image` requests per image, so at most N times as many for N images. How
    many they are is printed at once, and about how long they take after the first few images. What
    is in the cache already is not made again, so the same call goes on where an earlier one was
    stopped, by Ctrl-C or by force.

    Args:
        augmenter: makes the faces; it has a cache.
        dataset: map-style, of `(image, label, ...)` or a dict of both, with no random transform;
            images as `as_array` takes them.
        scheme: what the labels mean; None reads it off the data set (`dataset_scheme`).
        num_workers: processes that read the data set.
        progress: print the estimate and a progress bar on stderr.
        requests: instead of what the images offer.

    Returns:
        Counts, and each sample that was skipped with its reason. A damaged sample is skipped,
        never an error; where that goes for all of the first ones, a warning says so.

    Raises:
        LabelError: there is no telling what the labels mean, or the scheme contradicts the set.
        ValueError: the augmenter has no cache.
    """
    if augmenter.cache is None:
        raise ValueError("warm needs a cache: ExpressionAugmenter(..., cache='folder')")
    samples = _Samples(dataset, dataset_scheme(dataset, scheme))
    report, started = WarmReport(), time.perf_counter()
    count = len(samples)
    report.planned = (
        count * augmenter.per_image
        if requests is None
        else sum(len(requests(i)) for i in range(count))
    )
    console = Console(stderr=True, quiet=not progress)
    console.print(f"At most {report.planned:,} synthetic faces of {count:,} images.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not progress)
    estimate = _Estimate(count)
    with augmenter.cache.filling(), bar:
        task = bar.add_task("images", total=count)
        try:
            for batch in _batches(samples, augmenter, num_workers):
                _warm_batch(augmenter, batch, report, samples.scheme, requests)
                bar.advance(task, len(batch))
                if estimate.add(len(batch), report.made):
                    report.estimate = estimate.seconds
                    about = timedelta(seconds=max(1, round(report.estimate)))
                    console.print(f"About {about} in all. Stop at any time; the same call goes on.")
                _warn_if_nothing_works(report, estimate.done, min(PILOT, count))
        except KeyboardInterrupt:
            console.print(f"Stopped with {report.made:,} made; the same call goes on from here.")
            raise
    report.failures.sort(key=lambda failure: failure[0])
    report.rejected.sort(key=lambda rejected: rejected[0])
    report.seconds = time.perf_counter() - started
    return report


def _batches(
    samples: _Samples, augmenter: ExpressionAugmenter, num_workers: int
) -> Iterator[list[_Sample]]:
    """Yield all samples, first `PILOT` of them that are spread evenly over the data set."""
    count = len(samples)
    size = max(1, augmenter.batch_size // augmenter.per_image)
    pilot = sorted({round(i) for i in np.linspace(0, count - 1, min(PILOT, count))})
    known = set(pilot)
    # the first load the models, whose time does not count per image
    for start, stop in [(0, 2), *((i, i + size) for i in range(2, PILOT, size))]:
        if part := pilot[start:stop]:
            yield [samples[i] for i in part]
    yield from DataLoader(
        Subset(samples, [i for i in range(count) if i not in known]),
        batch_size=size,
        num_workers=num_workers,
        collate_fn=list,
    )


class _Estimate:
    """Tells once, from the first images of which something had to be made, how long all take."""

    def __init__(self, count: int) -> None:
        self.count, self.done = count, 0
        self.seconds = float("nan")
        self._begun = time.perf_counter()
        self._loaded: tuple[float, int, int] | None = None
        """When, and after how many images and faces, the models were there."""

    def add(self, images: int, made: int) -> bool:
        """Take notice of a batch, with the faces made so far; return whether it is told now."""
        self.done += images
        now = time.perf_counter()
        if self._loaded is None:
            if made:
                self._loaded = now, self.done, made
            return False
        then, images_then, made_then = self._loaded
        enough = self.done - images_then >= PILOT - 2 or now - self._begun > _PILOT_SECONDS
        if not np.isnan(self.seconds) or made == made_then or not enough:
            return False
        per_image = (now - then) / (self.done - images_then)
        self.seconds = now - self._begun + per_image * (self.count - self.done)
        return True


def _warn_if_nothing_works(report: WarmReport, done: int, first: int) -> None:
    if done == len(report.failures) == first > 0:
        _, reason, message = report.failures[0]
        warnings.warn(
            f"all of the first {done} samples were skipped ({reason}): {message}", stacklevel=3
        )


@dataclass
class _Sample:
    index: int
    image: np.ndarray | None = None
    source: Expression | None = None
    reason: str = ""
    message: str = ""


class _Samples(Dataset[_Sample]):
    """Reads samples so that a damaged one becomes a reason, also inside a worker."""

    def __init__(self, dataset: Any, scheme: LabelScheme) -> None:
        self.dataset, self.scheme = dataset, scheme

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> _Sample:
        try:
            image, label = split_sample(self.dataset[index])
            if isinstance(image, Image.Image):  # may not be decoded yet
                check_size(*image.size)
            array = as_array(image)
            check_size(array.shape[1], array.shape[0])
            return _Sample(index, array, read_label(label, self.scheme))
        except ExpraugError as error:
            return _Sample(index, reason=error.reason, message=str(error))
        except Exception as error:  # whatever a user's data set raises on a damaged file
            return _Sample(index, reason="unreadable_image", message=f"{error!r}")


def _requests_of(
    augmenter: ExpressionAugmenter, sample: _Sample, digest: bytes, scheme: LabelScheme
) -> Iterator[SynthesisRequest]:
    menu = augmenter.menu(digest, sample.source, scheme)
    yield from (request for request in dict.fromkeys(menu) if request is not None)


def _warm_batch(
    augmenter: ExpressionAugmenter,
    batch: Sequence[_Sample],
    report: WarmReport,
    scheme: LabelScheme,
    wanted: Requests | None,
) -> None:
    images: list[np.ndarray] = []
    requests: list[SynthesisRequest] = []
    digests: list[bytes] = []
    indices: list[int] = []
    for sample in batch:
        if sample.image is None:
            report.skipped[sample.reason] += 1
            report.failures.append((sample.index, sample.reason, sample.message))
            if wanted is not None:
                report.rejected += [(sample.index, r, sample.reason) for r in wanted(sample.index)]
            continue
        digest = image_digest(sample.image)
        offered = _requests_of(augmenter, sample, digest, scheme)
        for request in wanted(sample.index) if wanted else offered:
            images.append(sample.image)
            requests.append(request)
            digests.append(digest)
            indices.append(sample.index)
    without_face = set()
    told = augmenter.fill(images, requests, digests)
    for index, request, (reason, cached) in zip(indices, requests, told, strict=True):
        if reason:
            report.rejected.append((index, request, reason))
        if reason == NoFaceError.reason:
            without_face.add(index)
        elif reason:
            report.skipped[reason] += 1
        elif cached:
            report.cached += 1
        else:
            report.made += 1
    for index in sorted(without_face):
        report.skipped[NoFaceError.reason] += 1
        report.failures.append((index, NoFaceError.reason, "the detector found no face"))
