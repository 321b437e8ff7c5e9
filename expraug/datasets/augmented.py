"""A data set of faces that holds other expressions of them too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import xxhash
from torch.utils.data import ConcatDataset, Dataset, Subset

from expraug.datasets.exclusions import Excluded, read_exclusions, sample_origins
from expraug.datasets.joint import JointTransform
from expraug.datasets.modes import Mode, check_mode, sample_copies
from expraug.errors import AmbiguousLabelError
from expraug.expressions import Expression
from expraug.labels import (
    SchemeLike,
    class_names,
    dataset_scheme,
    join_sample,
    labels_of,
    read_label,
    split_sample,
    write_label,
)
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest
from expraug.pipeline.requests import uniforms_from_digest
from expraug.pipeline.samples import AugmentedSample, augment_samples

if TYPE_CHECKING:
    from expraug.pipeline.warm import WarmReport


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
            images as `as_array` takes them, before Normalize. All else in a sample is passed on.
        augmenter: samples the requests and makes the faces.
        scheme: what the labels mean; None reads it off the base (`dataset_scheme`).
        mode: see above. With "replace" each image offers the menu of the augmenter, one request of
            which is sampled at each reading.
        copies: with "add", how many synthetic faces follow for each real one, at most
            `augmenter.per_image`; they differ, so a source of which less can be made gets less.
        p: probability of each change; None: 1 with "add", 0.5 with "replace".
        seed: the same seed gives the same samples with any number of workers. With "add", None
            means 0; with "replace", that torch's global generator decides anew at each reading,
            and with a seed, `set_epoch` must tell the epoch.
        labels: of all samples of the base; None looks for them (`labels_of`).
        exclude: list of synthetic faces that are never given, as `expraug review` exports it. The
            base must tell the file of each sample, as `ImageFolder` does (`sample_origins`).

    Attributes:
        classes: class names in index order.
        targets: the label of every index, in the form that the base's labels have. With "replace"
            they are those of the real faces.
        sources: the index in `base` behind every index.

    Raises:
        LabelError: the base does not tell what its labels mean, the scheme contradicts it (the
            message names the first index), or a label cannot be right.
        ExclusionError: a list of rejected faces that cannot be read, or a base that does not tell
            the file of each sample.
        ValueError: an argument out of range; when a sample is read, an image that cannot be right,
            as one that was normalised already.
    """

    def __init__(
        self,
        base: Any,
        augmenter: ExpressionAugmenter,
        scheme: SchemeLike | None = None,
        *,
        mode: Mode = "add",
        copies: int = 1,
        p: float | None = None,
        seed: int | None = None,
        labels: Sequence[Any] | None = None,
        exclude: str | os.PathLike[str] | None = None,
    ) -> None:
        self.p = check_mode(mode, copies, p, augmenter)
        self.base = base
        self.augmenter = augmenter
        self.scheme = dataset_scheme(base, scheme)
        self.mode = mode
        self.seed = seed
        self._labels = None if labels is None else list(labels)
        self._excluded: Excluded = {}
        self._origins: list[str] = []
        if exclude is not None:
            self._excluded = read_exclusions(exclude, augmenter.fingerprint.synthesizer)
            self._origins = sample_origins(base)
        self._added: list[tuple[int, SynthesisRequest]] = []
        # shared memory, so that workers that live through several epochs see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        if mode == "add":
            self._labels = self._base_labels()
            for index, label in enumerate(self._labels):
                planned = self._plan(index, self._shown(label), copies)
                self._added += [(index, r) for r in planned if not self._is_excluded(index, r)]

    def __len__(self) -> int:
        return len(self.base) + len(self._added)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]  # negative ones count from the end
        if index >= len(self.base):
            source, request = self._added[index - len(self.base)]
            return self._planned_sample(self.base[source], source, request)
        sample = self.base[index]
        return sample if self.mode == "add" else self._replaced_sample(sample, index)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, on which `mode="replace"` with a `seed` depends."""
        self._epoch.fill_(epoch)

    @property
    def classes(self) -> list[str]:
        return class_names(self.base) or list(self.scheme.classes.values())

    @cached_property
    def targets(self) -> list[Any]:
        labels = self._base_labels()
        return labels + [
            write_label(labels[source], self.scheme, request.target)
            for source, request in self._added
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
        for source, request in self._added:
            planned.setdefault(source, []).append(request)
        only = sorted(planned) if self.mode == "add" else range(len(self.base))
        report = warm(
            self.augmenter,
            Subset(self.base, only),
            self.scheme,
            num_workers=num_workers,
            progress=progress,
            requests=(lambda i: planned[only[i]]) if self.mode == "add" else None,
        )
        report.failures = [(only[i], reason, text) for i, reason, text in report.failures]
        report.rejected = [(only[i], request, reason) for i, request, reason in report.rejected]
        useless = {(index, request) for index, request, _ in report.rejected}
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

    def _shown(self, label: Any) -> Expression | None:
        """Return what a label says; None also where a soft one is not clear."""
        try:
            return read_label(label, self.scheme)
        except AmbiguousLabelError:
            return None

    def _plan(self, index: int, source: Expression | None, copies: int) -> list[SynthesisRequest]:
        """Return what is added for one sample; its image is not known here."""
        seed = self.seed or 0
        digest = xxhash.xxh3_128_digest(index.to_bytes(8, "little"), seed=seed & (2**64 - 1))
        menu = self.augmenter.menu(digest, source, self.scheme)
        uniforms = [uniforms_from_digest(digest, seed, number) for number in range(copies)]
        return sample_copies(menu, uniforms, self.p)

    def _planned_sample(self, sample: Any, index: int, request: SynthesisRequest) -> Any:
        planned = self._shown(self._base_labels()[index])

        def sample_request(_: int, digest: bytes, source: Expression) -> SynthesisRequest | None:
            if source == planned:
                return request
            # a base that answers a damaged file with another sample, as timm's does
            self.augmenter.stats["label_not_as_planned"] += 1
            return None

        image, label = split_sample(sample)
        (made,) = augment_samples(self.augmenter, self.scheme, [image], [label], sample_request)
        return self._joined(sample, made)

    def _is_excluded(self, index: int, request: SynthesisRequest | None) -> bool:
        return bool(self._excluded) and request in self._excluded.get(self._origins[index], ())

    def _replaced_sample(self, sample: Any, index: int) -> Any:
        chance, slot = torch.rand(2).tolist() if self.seed is None else (0.0, 0.0)

        def sample_request(_: int, digest: bytes, source: Expression) -> SynthesisRequest | None:
            u0, u1 = chance, slot
            if self.seed is not None:
                u0, u1 = uniforms_from_digest(digest, self.seed, int(self._epoch))
            if u0 >= self.p:
                return None
            request = self.augmenter.sample_request(digest, source, u1, self.scheme)
            return None if self._is_excluded(index, request) else request

        image, label = split_sample(sample)
        (made,) = augment_samples(
            self.augmenter,
            self.scheme,
            [image],
            [label],
            sample_request,
            wanted=[self.seed is not None or chance < self.p],
        )
        return self._joined(sample, made)

    def _joined(self, sample: Any, made: AugmentedSample) -> Any:
        """Return a sample with what was made of it; the very sample where nothing was."""
        if made.outcome is None or made.outcome.target is None:
            return sample
        return join_sample(sample, made.image, self._new_label(split_sample(sample)[1], made))

    def _new_label(self, label: Any, made: AugmentedSample) -> Any:
        """Return the label of what was made of a sample with this label."""
        return made.label


def is_synthetic(dataset: Any) -> list[bool]:
    """Return for every index of a data set whether an `ExpressionAugmentedDataset` added it.

    It is asked for through `Subset` (`random_split`), `ConcatDataset` and `JointTransform` too.
    """
    if isinstance(dataset, Subset):
        flags = is_synthetic(dataset.dataset)
        return [flags[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [flag for part in dataset.datasets for flag in is_synthetic(part)]
    if isinstance(dataset, JointTransform):
        return is_synthetic(dataset.dataset)
    added = 0
    if isinstance(dataset, ExpressionAugmentedDataset):
        added = len(dataset) - len(dataset.base)
    return [False] * (len(dataset) - added) + [True] * added
