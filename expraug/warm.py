"""Synthesizing ahead of training, into the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import Progress
from torch.utils.data import DataLoader, Dataset

from expraug.augmenter import Draw, ExpressionAugmenter
from expraug.datasets.sample import image_and_label
from expraug.errors import ExpraugError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array, check_size


@dataclass
class WarmReport:
    """What `warm` did.

    Args:
        made: synthetic faces made now.
        cached: synthetic faces that were there already.
        skipped: by reason, how many *samples* were skipped whole, and how many synthetic faces the
            gate will reject.
        failures: (index in the data set, reason, message) of each sample that was skipped.
        rejected: (index in the data set, draw, reason) of each synthetic face that was asked for
            and cannot be used.
    """

    made: int = 0
    cached: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    rejected: list[tuple[int, Draw, str]] = field(default_factory=list)


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
            image, label = image_and_label(self.dataset[index])
            if isinstance(image, Image.Image):  # may not be decoded yet
                check_size(*image.size)
            array = as_array(image)
            check_size(array.shape[1], array.shape[0])
            return _Sample(index, array, self.scheme.expression(label))
        except ExpraugError as error:
            return _Sample(index, reason=error.reason, message=str(error))
        except Exception as error:  # whatever a user's data set raises on a damaged file
            return _Sample(index, reason="unreadable_image", message=f"{error!r}")


def warm(
    augmenter: ExpressionAugmenter,
    dataset: Any,
    scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None],
    *,
    num_workers: int = 0,
    progress: bool = True,
    draws: Callable[[int], Sequence[Draw]] | None = None,
) -> WarmReport:
    """See `ExpressionAugmenter.warm`; `draws` says what to make of a sample, by its index."""
    if augmenter.cache is None:
        raise ValueError("warm needs a cache: ExpressionAugmenter(..., cache='folder')")
    samples = _Samples(dataset, LabelScheme.resolve(scheme))
    loader = DataLoader(
        samples, batch_size=augmenter.batch_size, num_workers=num_workers, collate_fn=list
    )
    report = WarmReport()
    with augmenter.cache.filling(), Progress(disable=not progress) as bar:
        task = bar.add_task("synthesizing", total=len(samples))
        for batch in loader:
            _warm_batch(augmenter, batch, report, samples.scheme, draws)
            bar.advance(task, len(batch))
    return report


def _warm_batch(
    augmenter: ExpressionAugmenter,
    batch: Sequence[_Sample],
    report: WarmReport,
    scheme: LabelScheme,
    wanted: Callable[[int], Sequence[Draw]] | None,
) -> None:
    images, draws, indices = [], [], []
    for sample in batch:
        if sample.image is None:
            report.skipped[sample.reason] += 1
            report.failures.append((sample.index, sample.reason, sample.message))
            if wanted is not None:
                report.rejected += [(sample.index, d, sample.reason) for d in wanted(sample.index)]
            continue
        possible = augmenter.possible(sample.source, scheme)
        for draw in wanted(sample.index) if wanted else possible:
            images.append(sample.image)
            draws.append(draw)
            indices.append(sample.index)
    without_face = set()
    outcomes = augmenter(images, draws, on_miss="synthesize")
    for index, draw, outcome in zip(indices, draws, outcomes, strict=True):
        if outcome.reason:
            report.rejected.append((index, draw, outcome.reason))
        if outcome.reason == "no_face":
            without_face.add(index)
        elif outcome.reason:
            report.skipped[outcome.reason] += 1
        elif outcome.cached:
            report.cached += 1
        else:
            report.made += 1
    for index in sorted(without_face):
        report.skipped["no_face"] += 1
        report.failures.append((index, "no_face", "the detector found no face"))
