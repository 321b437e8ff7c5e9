"""Samples of map-style data sets: where image and label are, and what all the labels are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from expraug.errors import LabelError
from expraug.expressions import Expression, LabelScheme

LABEL_KEYS = ("label", "labels", "expression")
"""Keys under which a sample that is a dict, or a column of a `datasets.Dataset`, is its label."""


def image_and_label(sample: Any) -> tuple[Any, Any]:
    """Return image and label of a sample: (image, label, ...) or a dict that names them.

    Raises:
        LabelError: the sample has another shape, or the label is a soft one.
    """
    if isinstance(sample, Mapping):
        key = _label_key(sample)
        if "image" in sample and key is not None:
            return sample["image"], _single(sample[key])
    elif isinstance(sample, Sequence) and not isinstance(sample, str) and len(sample) >= 2:
        return sample[0], _single(sample[1])
    raise LabelError(
        f"a sample must be (image, label) or {{'image', 'label'}}, not {sample!r:.200}"
    )


def _single(label: Any) -> Any:
    if isinstance(label, (list, tuple)) or getattr(label, "shape", ()) not in ((), (1,)):
        raise LabelError(
            f"a label must be a class index or class name, not {label!r:.100}: a face whose "
            f"expression changes gets another class, which one-hot and soft labels do not tell"
        )
    return label


def replaced(sample: Any, image: Any, label: Any) -> Any:
    """Return a sample with another image and label and all else as it was."""
    if isinstance(sample, Mapping):
        return {**sample, "image": image, _label_key(sample): label}
    values = (image, label, *sample[2:])
    return type(sample)(*values) if hasattr(sample, "_fields") else type(sample)(values)


def label_like(label: Any, scheme: LabelScheme, expression: Expression) -> Any:
    """Return the label of an expression in the form of another one: index, name or tensor."""
    if isinstance(label, str):
        return scheme.class_name(expression)
    index = scheme.index(expression)
    return label.new_tensor(index) if isinstance(label, Tensor) else type(label)(index)


def labels_of(dataset: Any) -> list[Any]:
    """Return the label of every sample of a map-style data set, without its images where it can.

    They are taken from the attribute `targets` or `labels` (torchvision's data sets), or the label
    column of a `datasets.Dataset`, also through `Subset` and `ConcatDataset`. Of any other set
    every sample is read, which a warning tells.

    Returns:
        Class indices (int) or class names (str).

    Raises:
        LabelError: a sample without label.
    """
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return [labels[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [label for part in dataset.datasets for label in labels_of(part)]
    key = _label_column(dataset)
    if key is not None:
        found = dataset.with_format(None)[key]
    else:
        known = (getattr(dataset, name, None) for name in ("targets", "labels"))
        found = next((k for k in known if k is not None and len(k) == len(dataset)), None)
        convert = getattr(dataset, "target_transform", None)
        if found is not None and convert is not None:
            found = [convert(label) for label in found]
    if found is None:
        if len(dataset) > 1000:
            warnings.warn(
                f"{type(dataset).__name__} has no attribute 'targets' or 'labels', so all "
                f"{len(dataset)} samples are read for their labels; give the labels to save that",
                stacklevel=2,
            )
        found = [image_and_label(dataset[i])[1] for i in range(len(dataset))]
    return [label if isinstance(label, str) else int(label) for label in found]


def scheme_of(dataset: Any) -> LabelScheme:
    """Return the label scheme that a data set itself tells.

    It is its attribute `scheme` (`FaceDataset`), or is read off the names of its classes: the
    attribute `classes` (torchvision's `ImageFolder`) or the `ClassLabel` feature of a
    `datasets.Dataset`; also through `Subset` and `ConcatDataset`.

    Raises:
        LabelError: the set does not tell, or a class name means no expression.
    """
    if isinstance(dataset, Subset):
        return scheme_of(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        schemes = [scheme_of(part) for part in dataset.datasets]
        if any(scheme != schemes[0] for scheme in schemes):
            raise LabelError("the parts of a ConcatDataset have different classes; give a scheme")
        return schemes[0]
    if isinstance(known := getattr(dataset, "scheme", None), LabelScheme):
        return known
    key = _label_column(dataset)
    names = getattr(dataset, "classes", None)
    if key is not None:
        names = getattr(dataset.features[key], "names", None)
    if not names:
        raise LabelError(
            f"{type(dataset).__name__} does not tell what its labels mean: give scheme a published "
            f"scheme's name ('fer2013', ...), the class names in index order, or a mapping"
        )
    return LabelScheme.from_classes(list(names))


def _label_key(sample: Mapping[str, Any]) -> str | None:
    return next((key for key in LABEL_KEYS if key in sample), None)


def _label_column(dataset: Any) -> str | None:
    """Return the label column of a `datasets.Dataset`; None if it is no such set."""
    columns, features = (getattr(dataset, name, None) for name in ("column_names", "features"))
    if not isinstance(columns, list) or not isinstance(features, Mapping):
        return None
    key = _label_key(features)
    if key is None:
        raise LabelError(f"no column {' or '.join(LABEL_KEYS)}; there are {', '.join(columns)}")
    return key
