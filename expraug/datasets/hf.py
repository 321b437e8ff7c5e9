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
from expraug.datasets.augmented import Mode, default_p
from expraug.errors import ExpraugError, LabelError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array, as_given, read_image
from expraug.faces.image_file import ImageFormat, encode, provenance
from expraug.labels import LABEL_KEYS, write_label
from expraug.pipeline import ExpressionAugmenter, Outcome, SynthesisRequest

if TYPE_CHECKING:
    from datasets import Features

VERSION = 1
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
    >>> faces.map(expressions, batched=True, batch_size=64).num_rows
    40

    What becomes of a face follows from its pixels and the settings alone, so batch size, number of
    processes and order change nothing. `datasets` knows the result by the pickled settings, among
    them the digest of the synthesizer's weights: the same call in another process is a hit of its
    cache, another synthesizer is not. The cache folder and the device are settings too.

    * `map(…, batched=True, batch_size=64, writer_batch_size=256)`: the default sizes of 1000 cost
      memory. Real images keep their bytes, synthetic ones are encoded and marked as synthetic.
    * `map(…, num_proc=4)` works in several processes. For several GPUs make the augmenter with
      `device="cuda"`, call `multiprocess.set_start_method("spawn")`, and
      `map(…, with_rank=True, num_proc=torch.cuda.device_count())`.
    * `set_transform(ExpressionMap(…, mode="replace", seed=None))` draws anew at each access.
    * `IterableDataset.map(…, batched=True, features=expressions.features(stream.features))`; give
      the scheme: a stream does not pass its class names.

    Each row gets these columns: `synthetic`; `source_digest`, equal for all rows made of the same
    pixels, so that no split parts them; `source_label`; `synthesizer`, `fingerprint`, `intensity`,
    `variant` and `score_identity` (NaN without gate), empty or 0 on real rows; and `reason`, why a
    face was not changed although that was asked for ("no_face", "identity_lost",
    "unreadable_image", "label_outside_scheme"), else "". All other columns are copied from the
    source; leave out those that tell of its expression, such as annotators' votes.

    Args:
        augmenter: draws and makes the faces.
        scheme: what the labels mean: as `LabelScheme.resolve` takes it, or a `ClassLabel` feature.
            None: `map` reads it off the `ClassLabel`; labels that are strings must be expression
            names ("happy"), of which the set is then taken to have all eight.
        mode: "add" puts up to `copies` synthetic rows behind each real one; "replace" keeps the
            number of rows.
        copies: with "add", the most that are made of one row; they differ.
        p: probability of each; None: 1 with "add", 0.5 with "replace".
        seed: any integer; None draws from torch's global generator.
        image_column: of PIL images, or undecoded (`Image(decode=False)`).
        label_column: None finds "label", "labels" or "expression".
        image_format: of the synthetic images that `map` stores.

    Raises:
        ValueError: an argument out of range; when called, a batch without the columns, a single
            row, or rows that were expanded before.
        LabelError: when called, there is no telling what the labels mean. A label outside the
            scheme is left alone with its image.
    """

    def __init__(
        self,
        augmenter: ExpressionAugmenter,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None] | Any | None = None,
        *,
        mode: Mode = "add",
        copies: int = 1,
        p: float | None = None,
        seed: int | None = 0,
        image_column: str = "image",
        label_column: str | None = None,
        image_format: ImageFormat = "png",
    ) -> None:
        self.p = default_p(mode, p)
        if copies < 1 or (mode == "replace" and copies != 1):
            raise ValueError(f"copies must be at least 1, and 1 with 'replace', not {copies}")
        self.augmenter = augmenter
        names = getattr(scheme, "names", None)  # a ClassLabel
        given = scheme if names is None else names
        self.scheme = None if given is None else LabelScheme.resolve(given)
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
        label_column = self._check(columns, batch)
        labels = columns[label_column]
        scheme = self.scheme or _scheme_of_batch(batch, label_column, labels)
        rows = [
            self._row(image, label, scheme)
            for image, label in zip(columns[self.image_column], labels, strict=True)
        ]
        self._make(rows, self._augmenter_for(rank))
        out: dict[str, list[Any]] = {name: [] for name in (*columns, *PROVENANCE)}
        for i, row in enumerate(rows):
            real = {name: values[i] for name, values in columns.items()} | self._real(row)
            changed = [
                real
                | {label_column: write_label(row.label, scheme, draw.target)}
                | self._synthetic(row, outcome, draw)
                for outcome, draw in row.made
            ]
            for values in [real, *changed] if self.mode == "add" else changed or [real]:
                for name, value in values.items():
                    out[name].append(value)
        return out

    def features(self, features: Features) -> Features:
        """Return the features of the result, for `map(features=…)`: streams need to be told."""
        from datasets import Features, Value

        label = features[self._label_column(features)]
        added = {n: label if n == "source_label" else Value(t) for n, t in PROVENANCE.items()}
        return Features({**features, **added})

    def _check(self, columns: Mapping[str, Any], batch: Mapping[str, Any]) -> str:
        """Return the name of the label column of a batch that can be worked on."""
        if self.image_column not in columns:
            raise ValueError(f"no column {self.image_column!r}; there are {', '.join(columns)}")
        label_column = self._label_column(columns)
        if isinstance(batch[label_column], (int, str)):
            raise ValueError("ExpressionMap works on batches of rows: map(…, batched=True)")
        images = columns[self.image_column]
        if not isinstance(images, list) or any(isinstance(i, torch.Tensor) for i in images):
            raise ValueError("ExpressionMap needs an unformatted data set: with_format(None)")
        if taken := [name for name in PROVENANCE if name in columns]:
            raise ValueError(
                f"the rows have column(s) {', '.join(taken)} already: they were expanded before, "
                f"or these columns must be renamed (rename_columns) or removed (remove_columns)"
            )
        return label_column

    def _label_column(self, columns: Mapping[str, Any]) -> str:
        wanted = LABEL_KEYS if self.label_column is None else (self.label_column,)
        for name in wanted:
            if name in columns:
                return name
        raise ValueError(f"no column {' or '.join(wanted)}; there are {', '.join(columns)}")

    def _row(self, image: Any, label: Any, scheme: LabelScheme) -> _Row:
        """Read a row and draw for it. Whatever is wrong with it becomes its reason."""
        row = _Row(image, label)
        try:
            row.pixels = _pixels(image)
            if label is None:
                raise LabelError("there is a row without label")
            source = scheme.expression(label)
        except ExpraugError as error:
            row.reason = error.reason
            if isinstance(error, LabelError) and not self._warned:
                warnings.warn(f"rows are left alone: {error}", stacklevel=4)
                self._warned = True
            return row
        drawn = (self._draw(row.pixels, source, scheme, number) for number in range(self.copies))
        row.draws = [d for d in dict.fromkeys(drawn) if d is not None]
        return row

    def _draw(
        self, pixels: np.ndarray, source: Expression | None, scheme: LabelScheme, number: int
    ) -> SynthesisRequest | None:
        if self.seed is None:
            uniforms = torch.rand(1, 3).numpy()
        else:
            uniforms = uniforms_from_pixels(pixels, self.seed, number)[None]
        return self.augmenter.draw([source], uniforms, self.p, scheme)[0]

    @staticmethod
    def _make(rows: Sequence[_Row], augmenter: ExpressionAugmenter) -> None:
        asked = [(row, row.pixels, d) for row in rows for d in row.draws if row.pixels is not None]
        outcomes = augmenter([pixels for _, pixels, _ in asked], [draw for _, _, draw in asked])
        for (row, _, draw), outcome in zip(asked, outcomes, strict=True):
            if outcome.target is not None:
                row.made.append((outcome, draw))
            row.reason = row.reason or outcome.reason

    def _real(self, row: _Row) -> dict[str, Any]:
        """Return the image and the provenance of a row that stays as it is."""
        image = row.image
        if isinstance(image, Image.Image) and image.format and row.pixels is not None:
            image = image.copy()  # without format, or a JPEG would be encoded again, with loss
        return {
            self.image_column: image,
            "synthetic": False,
            "source_digest": "" if row.pixels is None else image_digest(row.pixels).hex(),
            "source_label": row.label,
            # no None: the type of a column is that of its first batch
            "synthesizer": "",
            "fingerprint": "",
            "intensity": 0.0,
            "variant": 0,
            "score_identity": float("nan"),
            "reason": row.reason,
        }

    def _synthetic(self, row: _Row, outcome: Outcome, draw: SynthesisRequest) -> dict[str, Any]:
        """Return the image and the provenance of a synthetic row, as far as they differ."""
        assert row.pixels is not None
        if isinstance(row.image, Mapping):
            mark = provenance(
                self.augmenter.fingerprint.partition("|")[0],
                str(draw.target),
                draw.intensity,
                image_digest(row.pixels).hex(),
            )
            image = {"bytes": encode(outcome.image, self.image_format, mark), "path": None}
        else:
            image = as_given(outcome.image, row.pixels, row.image)
        return {
            self.image_column: image,
            "synthetic": True,
            "synthesizer": self.augmenter.synthesizer.name,
            "fingerprint": self.augmenter.fingerprint,
            "intensity": draw.intensity,
            "variant": draw.variant,
            "score_identity": outcome.scores.get("identity", float("nan")),
            "reason": "",
        }

    def _augmenter_for(self, rank: int | None) -> ExpressionAugmenter:
        """Return the augmenter, on the GPU of this rank if it is on one."""
        if rank is None or self.augmenter.device.type != "cuda":
            return self.augmenter
        device = torch.device("cuda", rank % max(torch.cuda.device_count(), 1))
        if self._moved is None or self._moved.device != device:
            self._moved = _on_device(self.augmenter, device)
        return self._moved


@dataclass
class _Row:
    """A row on its way; `image` as it came, `pixels` None if it is unreadable."""

    image: Any
    label: Any
    pixels: np.ndarray | None = None
    draws: list[SynthesisRequest] = field(default_factory=list)
    made: list[tuple[Outcome, SynthesisRequest]] = field(default_factory=list)
    reason: str = ""


def _stored(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a batch: as they are stored, with images undecoded, if `map` gave it.

    A decoded image does not know its bytes any more, and a damaged one would end the whole map.
    """
    table = getattr(batch, "pa_table", None)
    return dict(batch) if table is None else table.to_pydict()


def _scheme_of_batch(batch: Mapping[str, Any], column: str, labels: Sequence[Any]) -> LabelScheme:
    features = getattr(getattr(batch, "formatter", None), "features", None) or {}
    names = getattr(features.get(column), "names", None)
    if names is not None:
        return LabelScheme.from_classes(names)
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


def _on_device(augmenter: ExpressionAugmenter, device: torch.device) -> ExpressionAugmenter:
    moved = copy.copy(augmenter)  # by its pickled state: a synthesizer known by name is loaded anew
    moved.device = device
    if hasattr(moved.detector, "device"):
        moved.detector = copy.copy(moved.detector)
        moved.detector.device = device
    return moved


_process = os.getpid()


def _use_one_thread_after_fork() -> None:
    """Keep a forked process from the threads of torch, which do not live through a fork."""
    global _process
    if os.getpid() != _process:
        torch.set_num_threads(1)
        _process = os.getpid()
