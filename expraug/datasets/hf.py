"""Hugging Face `datasets`: a function for `map`, for `set_transform` and for streams."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from expraug.cache import image_digest
from expraug.datasets.modes import Mode, check_mode, sample_copies
from expraug.errors import ExpraugError, LabelError, RejectedError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array, read_image
from expraug.faces.image import check_mode as check_image_mode
from expraug.faces.image_file import ImageFormat, encode, provenance
from expraug.labels import (
    IMAGE_KEYS,
    LABEL_KEYS,
    SchemeLike,
    find_key,
    read_label,
    scheme_for_classes,
)
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest
from expraug.pipeline.requests import uniforms_from_digest
from expraug.pipeline.samples import AugmentedSample, augment_samples

if TYPE_CHECKING:
    from datasets import Features

VERSION = 2
"""Raised when the same settings would give other rows; part of the fingerprint."""

PROVENANCE = {
    "synthetic": "bool",
    "source_digest": "string",
    "source_label": "int64",
    "synthesizer": "string",
    "fingerprint": "string",
    "intensity": "float32",
    "variant": "int32",
    "score_identity": "float32",
    "reason": "string",
}
"""Columns that `ExpressionMap` adds, and their types; `source_label` has that of the label."""


class ExpressionMap:
    """Adds other expressions of the faces in a batch of rows, or puts them in their place.

    >>> from datasets import load_dataset
    >>> from expraug import ExpressionAugmenter
    >>> faces = load_dataset("imagefolder", data_dir="examples/faces", split="train")
    >>> expressions = ExpressionMap(ExpressionAugmenter("pixel"))
    >>> made = faces.map(expressions, batched=True, batch_size=64)
    >>> sorted(set(made["reason"]))  # why a synthetic face was left out: here none was
    ['']
    >>> made.num_rows == 2 * faces.num_rows
    True

    What becomes of a face is sampled from its menu (`ExpressionAugmenter.menu`), which follows from
    its pixels and the settings alone, so batch size, number of processes and order change nothing.
    `datasets` knows the result by the pickled settings, among them the digest of the synthesizer's
    weights: the same call in another process is a hit of its cache, another synthesizer is not. The
    cache folder and the device are settings too.

    * `map(…, batched=True, batch_size=64, writer_batch_size=256)`: the default sizes of 1000 cost
      memory. Real images keep their bytes, synthetic ones are encoded and marked as synthetic.
    * `map(…, num_proc=4)` works in several processes. For several GPUs make the augmenter with
      `device="cuda"`, call `multiprocess.set_start_method("spawn")`, and
      `map(…, with_rank=True, num_proc=torch.cuda.device_count())`.
    * `set_transform(ExpressionMap(…, mode="replace", seed=None))` samples anew at each access.
    * `IterableDataset.map(…, batched=True, features=expressions.features(stream.features))`; give
      the scheme: a stream does not pass its class names.

    Each row gets these columns: `synthetic`; `source_digest`, equal for all rows made of the same
    pixels, so that no split parts them; `source_label`; `synthesizer`, `fingerprint`, `intensity`,
    `variant` and `score_identity` (NaN without gate), empty or 0 on real rows; and `reason`, why a
    face was not changed although that was asked for ("no_face", "identity_lost",
    "landmarks_disagree", "unreadable_image", "image_mode", "label_outside_scheme",
    "ambiguous_label"), else "". All other columns are
    copied from the source; leave out those that tell of its expression, such as annotators' votes.

    Args:
        augmenter: samples the requests and makes the faces.
        scheme: what the labels mean: as `LabelScheme.resolve` takes it, or a `ClassLabel` feature.
            None: `map` reads it off the `ClassLabel`, which one that is given must not contradict;
            labels that are strings must be expression names ("happy"), of which the set is then
            taken to have all eight.
        mode: "add" puts up to `copies` synthetic rows behind each real one; "replace" keeps the
            number of rows.
        copies: with "add", the most that are made of one row, at most `augmenter.per_image`; they
            differ.
        p: probability of each; None: 1 with "add", 0.5 with "replace".
        seed: any integer; None lets torch's global generator decide, anew at each call.
        image_column: of PIL images, or undecoded (`Image(decode=False)`); None finds "image",
            "img" or "face".
        label_column: None finds "label", "labels", "expression", "emotion", "target" or "class".
        image_format: of the synthetic images that `map` stores.

    Raises:
        ValueError: an argument out of range; when called, a batch without the columns, a single
            row, or rows that were expanded before.
        LabelError: an unknown scheme; when called, there is no telling what the labels mean, or
            the scheme contradicts the `ClassLabel` (the message names the first index). A label
            outside the scheme is left alone with its image.
    """

    def __init__(
        self,
        augmenter: ExpressionAugmenter,
        scheme: SchemeLike | Any | None = None,
        *,
        mode: Mode = "add",
        copies: int = 1,
        p: float | None = None,
        seed: int | None = 0,
        image_column: str | None = None,
        label_column: str | None = None,
        image_format: ImageFormat = "png",
    ) -> None:
        self.p = check_mode(mode, copies, p, augmenter)
        self.augmenter = augmenter
        names = getattr(scheme, "names", None)  # a ClassLabel
        self.scheme: SchemeLike | None = scheme if names is None else list(names)
        if self.scheme is not None:
            LabelScheme.resolve(self.scheme)  # an error now, not in a worker process
        self.mode, self.copies, self.seed = mode, copies, seed
        self.image_column, self.label_column = image_column, label_column
        self.image_format: ImageFormat = image_format
        self._moved: ExpressionAugmenter | None = None
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        # what decides on the rows and nothing that use changes: `datasets` hashes this
        return self.__dict__ | {"_moved": None, "_warned": False, "version": VERSION}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: v for name, v in state.items() if name != "version"})

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, list[Any]]:
        """Return the rows of a batch and what was made of them; `rank` picks the GPU."""
        _use_one_thread_after_fork()
        columns = _stored(batch)
        image_column, label_column = self._check(columns, batch)
        labels = columns[label_column]
        scheme = _scheme_of_batch(batch, label_column, labels, self.scheme)
        augmenter = self._augmenter_for(rank)
        rows = [
            self._row(image, label, scheme, augmenter)
            for image, label in zip(columns[image_column], labels, strict=True)
        ]
        _make(rows, scheme, augmenter)
        out: dict[str, list[Any]] = {name: [] for name in (*columns, *PROVENANCE)}
        for i, row in enumerate(rows):
            real = {name: values[i] for name, values in columns.items()} | _real(row, image_column)
            changed = [
                real | {label_column: made.label} | self._synthetic(row, made, image_column)
                for made in row.made
            ]
            for values in [real, *changed] if self.mode == "add" else changed or [real]:
                for name, value in values.items():
                    out[name].append(value)
        return out

    def features(self, features: Features) -> Features:
        """Return the features of the result, for `map(features=…)`: streams need to be told."""
        from datasets import Features, Value

        label = features[_column(features, LABEL_KEYS, self.label_column)]
        added = {n: label if n == "source_label" else Value(t) for n, t in PROVENANCE.items()}
        return Features({**features, **added})

    def _check(self, columns: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[str, str]:
        """Return the names of image and label column of a batch that can be worked on."""
        image_column = _column(columns, IMAGE_KEYS, self.image_column)
        label_column = _column(columns, LABEL_KEYS, self.label_column)
        if isinstance(batch[label_column], (int, str)):
            raise ValueError("ExpressionMap works on batches of rows: map(…, batched=True)")
        images = columns[image_column]
        if not isinstance(images, list) or any(isinstance(i, torch.Tensor) for i in images):
            raise ValueError("ExpressionMap needs an unformatted data set: with_format(None)")
        if taken := [name for name in PROVENANCE if name in columns]:
            raise ValueError(
                f"the rows have column(s) {', '.join(taken)} already: they were expanded before, "
                f"or these columns must be renamed (rename_columns) or removed (remove_columns)"
            )
        return image_column, label_column

    def _row(
        self, image: Any, label: Any, scheme: LabelScheme, augmenter: ExpressionAugmenter
    ) -> _Row:
        """Read a row and sample its requests. Whatever is wrong with it becomes its reason."""
        row = _Row(image, label)
        try:
            row.pixels = _pixels(image)
            row.digest = image_digest(row.pixels)
            if label is None:
                raise LabelError("there is a row without label")
            source = read_label(label, scheme)
        except ExpraugError as error:
            row.reason = error.reason
            if isinstance(error, LabelError) and not self._warned:
                warnings.warn(f"rows are left alone: {error}", stacklevel=4)
                self._warned = True
            return row
        if self.seed is None:
            uniforms = [(u0, u1) for u0, u1 in torch.rand(self.copies, 2).tolist()]
        else:
            numbers = range(self.copies)
            uniforms = [uniforms_from_digest(row.digest, self.seed, number) for number in numbers]
        menu = augmenter.menu(row.digest, source, scheme)
        row.requests = sample_copies(menu, uniforms, self.p)
        try:
            check_image_mode(image if row.requests else None)
        except RejectedError as error:
            augmenter.stats[error.reason] += 1
            row.requests, row.reason = [], error.reason
        return row

    def _synthetic(self, row: _Row, made: AugmentedSample, image_column: str) -> dict[str, Any]:
        """Return the image and the provenance of a synthetic row, as far as they differ."""
        assert made.outcome is not None
        assert made.request is not None
        request, fingerprint = made.request, self.augmenter.fingerprint
        if isinstance(row.image, Mapping):
            mark = provenance(
                fingerprint.synthesizer, str(request.target), request.intensity, row.digest.hex()
            )
            image = {"bytes": encode(made.image, self.image_format, mark), "path": None}
        else:
            image = made.image
        return {
            image_column: image,
            "synthetic": True,
            "synthesizer": self.augmenter.synthesizer.name,
            "fingerprint": str(fingerprint),
            "intensity": request.intensity,
            "variant": request.variant,
            "score_identity": made.outcome.scores.get("identity", float("nan")),
            "reason": "",
        }

    def _augmenter_for(self, rank: int | None) -> ExpressionAugmenter:
        """Return the augmenter, on the GPU of this rank if it is on one."""
        if rank is None or self.augmenter.device.type != "cuda":
            return self.augmenter
        device = torch.device("cuda", rank % max(torch.cuda.device_count(), 1))
        if self._moved is None or self._moved.device != device:
            self._moved = copy.deepcopy(self.augmenter).to(device)
        return self._moved


@dataclass
class _Row:
    """A row that is worked on; `image` as it came, `pixels` None if it is unreadable."""

    image: Any
    label: Any
    pixels: np.ndarray | None = None
    digest: bytes = b""
    requests: list[SynthesisRequest] = field(default_factory=list)
    made: list[AugmentedSample] = field(default_factory=list)
    reason: str = ""


def _make(rows: Sequence[_Row], scheme: LabelScheme, augmenter: ExpressionAugmenter) -> None:
    """Carry out the requests of all rows."""
    asked = [(row, row.pixels, request) for row in rows for request in row.requests]
    samples = augment_samples(
        augmenter,
        scheme,
        [pixels if isinstance(row.image, Mapping) else row.image for row, pixels, _ in asked],
        [row.label for row, _, _ in asked],
        lambda i, digest, source: asked[i][2],
    )
    for (row, _, _), made in zip(asked, samples, strict=True):
        if made.outcome is None:
            continue
        if made.outcome.target is not None:
            row.made.append(made)
        row.reason = row.reason or made.outcome.reason


def _real(row: _Row, image_column: str) -> dict[str, Any]:
    """Return the image and the provenance of a row that stays as it is."""
    image = row.image
    if isinstance(image, Image.Image) and image.format and row.pixels is not None:
        image = image.copy()  # without format, or a JPEG would be encoded again, with loss
    return {
        image_column: image,
        "synthetic": False,
        "source_digest": row.digest.hex(),
        "source_label": row.label,
        # no None: the type of a column is that of its first batch
        "synthesizer": "",
        "fingerprint": "",
        "intensity": 0.0,
        "variant": 0,
        "score_identity": float("nan"),
        "reason": row.reason,
    }


def _column(columns: Mapping[str, Any], usual: Sequence[str], given: str | None) -> str:
    """Return the name of a column: the given one, or the first usual one that is there.

    Raises:
        ValueError: there is none.
    """
    wanted = usual if given is None else (given,)
    found = find_key(columns, wanted)
    if found is None:
        raise ValueError(f"no column {' or '.join(wanted)}; there are {', '.join(columns)}")
    return found


def _stored(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a batch: as they are stored, with images undecoded, if `map` gave it.

    A decoded image does not know its bytes any more, and a damaged one would end the whole map.
    """
    table = getattr(batch, "pa_table", None)
    return dict(batch) if table is None else table.to_pydict()


def _scheme_of_batch(
    batch: Mapping[str, Any], column: str, labels: Sequence[Any], given: SchemeLike | None
) -> LabelScheme:
    """Return what the labels of a batch mean, held against its `ClassLabel` where it has one."""
    features = getattr(getattr(batch, "formatter", None), "features", None) or {}
    names = getattr(features.get(column), "names", None)
    if names is not None or given is not None:
        return scheme_for_classes(names, given, f"the ClassLabel of column {column!r}")
    if not all(label is None or isinstance(label, str) for label in labels):
        raise LabelError(
            f"nothing tells what the numbers in column {column!r} mean: give "
            f"ExpressionMap(augmenter, scheme=dataset.features[{column!r}]) or another scheme"
        )
    scheme = LabelScheme.from_classes([str(expression) for expression in Expression])
    for label in labels:
        if label not in scheme.classes.values() and label is not None and _is_synonym(label):
            raise LabelError(
                f"label {label!r} means {Expression.parse(label)}, but how the set spells the "
                f"other classes is not known: give scheme all its class names"
            )
    return scheme


def _is_synonym(label: str) -> bool:
    try:
        return bool(str(Expression.parse(label)))
    except LabelError:
        return False


def _pixels(image: Any) -> np.ndarray:
    """Return the pixels of an image in a row.

    Raises:
        UnreadableImageError: there is none, or a damaged one.
    """
    if image is None:
        raise UnreadableImageError("there is a row without image")
    if isinstance(image, Mapping):
        return read_image(image.get("bytes") or image.get("path") or b"")
    return as_array(image)


_process = os.getpid()


def _use_one_thread_after_fork() -> None:
    """Keep a forked process from the threads of torch, which do not live through a fork."""
    global _process
    if os.getpid() != _process:
        torch.set_num_threads(1)
        _process = os.getpid()
