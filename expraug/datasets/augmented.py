"""A data set of faces that holds other expressions of them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from expraug.errors import UnreadableImageError
from expraug.expressions import LabelScheme
from expraug.faces.image import as_array, as_given
from expraug.labels import dataset_scheme, join_sample, labels_of, split_sample, write_label
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest

if TYPE_CHECKING:
    from expraug.pipeline.warm import WarmReport

Mode = Literal["add", "replace"]
"""Whether synthetic faces come beside the real ones, or in their place."""


def default_p(mode: Mode, p: float | None) -> float:
    """Return the probability that a door works with where its caller gave none.

    Raises:
        ValueError: an unknown mode, or a probability outside [0, 1].
    """
    if mode not in ("add", "replace"):
        raise ValueError(f"mode must be 'add' or 'replace', not {mode!r}")
    if p is None:
        return 1.0 if mode == "add" else 0.5
    if not 0 <= p <= 1:
        raise ValueError(f"p must be between 0 and 1, not {p}")
    return p


class ExpressionAugmentedDataset(Dataset[Any]):
    """Wraps a map-style data set: its faces, and the same people with other expressions.

    With `mode="add"` the real samples come first, under their own indices, and synthetic ones
    follow. What follows is planned once, from the labels alone: an index is always the same
    sample, in any process, in any order, so random splits and (distributed) samplers work as on
    any data set, and `targets` tells every label ahead. With `mode="replace"` the length stays,
    and each time a sample is read its face is changed with probability `p`.

    A face that cannot be made (none found, rejected by the gate, not cached with
    `on_miss="keep"`) comes out as the real sample with the real label. `warm` makes all faces that
    were planned ahead of training and drops those that cannot be made.

    A synthetic face shows the person of its source: split by person first, then wrap the training
    part. `sources` tells the source of every index, for group-wise splits.

    Args:
        base: of `(image, label, ...)` or `{"image", "label", ...}`, without random transforms;
            images as `as_array` takes them. Other elements are passed on as they are.
        augmenter: draws and makes the faces.
        scheme: what the labels mean, as `LabelScheme.resolve` takes it; None reads it off the
            class names of the base.
        mode: see above.
        copies: with "add", how many synthetic faces follow for each real one, at most; they
            differ, so a source of which less can be made gets less.
        p: probability of each change; None: 1 with "add", 0.5 with "replace".
        seed: the same seed gives the same samples with any number of workers. With "add", None
            means 0; with "replace", that torch's global generator draws anew at each reading,
            and with a seed, `set_epoch` must tell the epoch.
        labels: of all samples of the base; None looks for them (`labels_of`).

    Attributes:
        targets: the label of every index: class indices, or names if the base's labels are names.
            With "replace" they are those of the real faces.
        sources: the index in `base` behind every index.

    Raises:
        LabelError: the base does not tell what its labels mean, or a label is outside the scheme.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        base: Any,
        augmenter: ExpressionAugmenter,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None] | None = None,
        *,
        mode: Mode = "add",
        copies: int = 1,
        p: float | None = None,
        seed: int | None = None,
        labels: Sequence[Any] | None = None,
    ) -> None:
        self.p = default_p(mode, p)
        if copies < 1:
            raise ValueError(f"copies must be at least 1, not {copies}")
        self.base = base
        self.augmenter = augmenter
        self.scheme = dataset_scheme(base) if scheme is None else LabelScheme.resolve(scheme)
        self.mode = mode
        self.seed = seed
        self._labels = None if labels is None else list(labels)
        self._added: list[tuple[int, SynthesisRequest]] = []
        # shared memory, so that workers that live through several epochs see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        if mode == "add":
            self._labels = self._base_labels()
            for index, label in enumerate(self._labels):
                source = self.scheme.expression(label)
                drawn = (self._draw(source, index, number) for number in range(copies))
                self._added += [(index, draw) for draw in dict.fromkeys(drawn) if draw is not None]

    def __len__(self) -> int:
        return len(self.base) + len(self._added)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]  # negative ones count from the end
        if index >= len(self.base):
            source, draw = self._added[index - len(self.base)]
            return self._changed(self.base[source], draw, self._base_labels()[source])
        sample = self.base[index]
        if self.mode == "add":
            return sample
        label = split_sample(sample)[1]
        found = self._draw(self.scheme.expression(label), index, int(self._epoch))
        return sample if found is None else self._changed(sample, found, label)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, on which the draws of `mode="replace"` with a `seed` depend."""
        self._epoch.fill_(epoch)

    @cached_property
    def targets(self) -> list[Any]:
        labels = self._base_labels()
        return labels + [
            write_label(labels[source], self.scheme, draw.target) for source, draw in self._added
        ]

    @cached_property
    def sources(self) -> list[int]:
        return [*range(len(self.base)), *(source for source, _ in self._added)]

    def warm(self, *, num_workers: int = 0, progress: bool = True) -> WarmReport:
        """Make ahead, into the augmenter's cache, what this set can give.

        With `mode="add"`, synthetic samples that cannot be made are dropped: the set gets shorter,
        and `targets` is right for each sample that is left. In distributed training the set must
        be as long in every process: call this in all of them or, to fill the cache, in one and
        leave the set that it is called on unused.

        Args:
            num_workers: processes that read the base.
            progress: show a progress bar.

        Raises:
            ValueError: the augmenter has no cache.
        """
        from expraug.pipeline.warm import warm

        planned: dict[int, list[SynthesisRequest]] = {}
        for source, draw in self._added:
            planned.setdefault(source, []).append(draw)
        only = sorted(planned) if self.mode == "add" else range(len(self.base))
        report = warm(
            self.augmenter,
            Subset(self.base, only),
            self.scheme,
            num_workers=num_workers,
            progress=progress,
            draws=(lambda i: planned[only[i]]) if self.mode == "add" else None,
        )
        report.failures = [(only[i], reason, text) for i, reason, text in report.failures]
        report.rejected = [(only[i], draw, reason) for i, draw, reason in report.rejected]
        useless = {(index, draw) for index, draw, _ in report.rejected}
        self._added = [added for added in self._added if added not in useless]
        for known in ("targets", "sources"):
            self.__dict__.pop(known, None)
        return report

    def _base_labels(self) -> list[Any]:
        if self._labels is None:
            self._labels = labels_of(self.base)
        if len(self._labels) != len(self.base):
            raise ValueError(f"{len(self._labels)} labels for {len(self.base)} samples")
        return self._labels

    def _draw(self, source: Any, index: int, number: int) -> SynthesisRequest | None:
        if self.seed is None and self.mode == "replace":
            uniforms = torch.rand(1, 3).numpy()
        else:
            seeds = [(self.seed or 0) & (2**64 - 1), index, number]
            uniforms = np.random.default_rng(seeds).random((1, 3))
        return self.augmenter.draw([source], uniforms, self.p, self.scheme)[0]

    def _changed(self, sample: Any, draw: SynthesisRequest, planned_label: Any) -> Any:
        """Return a sample with image and label changed together, or as it is."""
        image, label = split_sample(sample)
        source = self.scheme.expression(label)
        if source != self.scheme.expression(planned_label):
            # a base that answers a damaged file with another sample, as timm's does
            self.augmenter.stats["label_not_as_planned"] += 1
            return sample
        try:
            array = as_array(image)
        except UnreadableImageError as error:  # too small for a face: nothing to be done with it
            self.augmenter.stats[error.reason] += 1
            return sample
        (outcome,) = self.augmenter([array], [draw])
        if outcome.target is None:
            return sample
        made = as_given(outcome.image, array, image)
        return join_sample(sample, made, write_label(label, self.scheme, outcome.target))


def is_synthetic(dataset: Any) -> list[bool]:
    """Return for every index of a data set whether an `ExpressionAugmentedDataset` added it.

    It is asked for through `Subset` (`random_split`) and `ConcatDataset` too.
    """
    if isinstance(dataset, Subset):
        flags = is_synthetic(dataset.dataset)
        return [flags[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [flag for part in dataset.datasets for flag in is_synthetic(part)]
    added = 0
    if isinstance(dataset, ExpressionAugmentedDataset):
        added = len(dataset) - len(dataset.base)
    return [False] * (len(dataset) - added) + [True] * added
