"""Image and label in and out of any sample; what a data set's labels mean.

A label is a class index (int, NumPy integer, array or tensor without dimensions), the data set's
own class name, an `Expression`, or a vector over the classes: one-hot, or soft with a clear
majority.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from expraug.errors import AmbiguousLabelError, LabelError
from expraug.expressions import Expression, LabelScheme

IMAGE_KEYS = ("image", "img", "face")
LABEL_KEYS = ("label", "labels", "expression", "emotion", "target", "class")
"""Names of image and label in a sample that is a dict, or of the columns of a table; the first one
that is there counts."""

SchemeLike = LabelScheme | str | Sequence[str] | Mapping[str, str | None]
"""A scheme, the name of a published one, class names in index order, or a mapping from class name
to expression (None: shows none of the eight)."""

_MAJORITY = 0.5
"""A soft label counts as the class that has more than this."""


# -- one sample


def find_key(names: Mapping[str, Any] | Sequence[str], wanted: Sequence[str]) -> str | None:
    """Return the first wanted name that is there; None if there is none."""
    return next((key for key in wanted if key in names), None)


def split_sample(sample: Any) -> tuple[Any, Any]:
    """Return image and label of a sample: (image, label, ...) or a dict that names them.

    Raises:
        LabelError: the sample has another shape.
    """
    if isinstance(sample, Mapping):
        image, label = find_key(sample, IMAGE_KEYS), find_key(sample, LABEL_KEYS)
        if image is not None and label is not None:
            return sample[image], sample[label]
        raise LabelError(
            f"a sample must name its image ({', '.join(IMAGE_KEYS)}) and its label "
            f"({', '.join(LABEL_KEYS)}); it has the keys {', '.join(map(repr, sample))}"
        )
    if isinstance(sample, Sequence) and not isinstance(sample, (str, bytes)) and len(sample) >= 2:
        return sample[0], sample[1]
    raise LabelError(
        f"a sample must be (image, label, ...) or a dict of both, not {type(sample).__name__}. "
        f"A data set's `transform=` sees the image alone: wrap the data set in "
        f"expraug.JointTransform(dataset, transform) instead"
    )


def join_sample(sample: Any, image: Any, label: Any) -> Any:
    """Return a sample with another image and label and all else as it was."""
    if isinstance(sample, Mapping):
        keys = find_key(sample, IMAGE_KEYS), find_key(sample, LABEL_KEYS)
        return {**sample, keys[0]: image, keys[1]: label}
    values = (image, label, *sample[2:])
    return type(sample)(*values) if hasattr(sample, "_fields") else type(sample)(values)


def read_label(label: Any, scheme: LabelScheme) -> Expression | None:
    """Return what a label says that a face shows; None for a class that shows none of the eight.

    Args:
        label: in one of the forms that stand at the top of this module.
        scheme: what the classes mean.

    Raises:
        AmbiguousLabelError: a soft label in which no class has more than half.
        LabelError: a label outside the scheme, or in no form that can be right, as 4.7, True, None
            or a list of several indices.
    """
    if type(label) is int or isinstance(label, str):  # by far the most frequent
        return scheme.expression(label)
    if isinstance(label, Expression):  # its value is no class index
        scheme.index(label)
        return label
    if isinstance(label, (list, tuple)) or getattr(label, "ndim", 0) == 1:
        return scheme.expression(_majority(label, scheme))
    return scheme.expression(_index(label))


def write_label(label: Any, scheme: LabelScheme, expression: Expression) -> Any:
    """Return the label of an expression in the form of another label.

    Args:
        label: as `read_label` takes it; a vector, hard or soft, becomes one-hot.
        scheme: what the classes mean.
        expression: what the face shows now.

    Raises:
        LabelError: the scheme has no class for it.
    """
    if isinstance(label, str):
        return scheme.class_name(expression)
    index = scheme.index(expression)
    if isinstance(label, Expression):
        return expression
    if isinstance(label, (Tensor, np.ndarray)) and label.ndim == 0:
        return _number_like(label, index)
    if isinstance(label, Tensor):
        return label.new_tensor([i == index for i in scheme.classes])
    if isinstance(label, np.ndarray):
        return np.array([i == index for i in scheme.classes], label.dtype)
    if isinstance(label, (list, tuple)):
        pairs = zip(scheme.classes, label, strict=True)
        shares = [_number_like(share, int(i == index)) for i, share in pairs]
        return type(label)(*shares) if hasattr(label, "_fields") else type(label)(shares)
    return _number_like(label, index)


def _number_like(number: Any, value: int) -> Any:
    """Return a value as the kind of number, or of array or tensor without dimensions, given."""
    if isinstance(number, Tensor):
        return number.new_tensor(value)
    if isinstance(number, np.ndarray):
        return np.array(value, number.dtype)
    return type(number)(value)


def _index(label: Any) -> int:
    """Return the class index that a number means."""
    whole = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
    if isinstance(label, np.ndarray):
        whole = label.ndim == 0 and label.dtype.kind in "iu"
    elif isinstance(label, Tensor):
        number = not (label.is_floating_point() or label.is_complex() or label.dtype == torch.bool)
        whole = label.ndim == 0 and number
    if not whole:
        raise LabelError(
            f"a label must be a class index, a class name, or a one-hot or soft vector over the "
            f"classes, not {label!r:.100}"
        )
    return int(label)


def _majority(label: Any, scheme: LabelScheme) -> int:
    """Return the class index that a vector over the classes is about."""
    try:
        if isinstance(label, Tensor):
            label = label.detach().cpu()
            label = label.float() if label.is_floating_point() else label  # bfloat16 too
        values = np.asarray(label)
        shares = values.astype(np.float64) if values.dtype.kind in "biuf" else np.empty(0)
    except (TypeError, ValueError, RuntimeError):  # lists of unequal things
        shares = np.empty(0)
    right = shares.shape == (len(scheme),) and bool(np.isfinite(shares).all())
    if not (right and (shares >= 0).all() and abs(shares.sum() - 1) < 1e-2):
        raise LabelError(
            f"a vector as label must hold a share for each of the {len(scheme)} classes, each at "
            f"least 0 and summing to 1, not {label!r:.100}"
        )
    if shares.max() <= _MAJORITY:
        raise AmbiguousLabelError(
            f"no class has more than half in {label!r:.100}: what the face shows is not clear. Put "
            f"transforms that mix labels, as MixUp, after this one"
        )
    return list(scheme.classes)[int(shares.argmax())]


# -- a data set


def labels_of(dataset: Any) -> list[Any]:
    """Return the label of every sample of a map-style data set, without its images where it can.

    They are taken from the attribute `targets` or `labels` (torchvision's data sets), or the label
    column of a `datasets.Dataset`, also through `Subset` and `ConcatDataset`. Of any other set
    every sample is read, which a warning tells.

    Returns:
        Class indices (int), class names (str), or vectors.

    Raises:
        LabelError: a sample without label.
    """
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return [labels[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [label for part in dataset.datasets for label in labels_of(part)]
    if (key := _label_column(dataset)) is not None:
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
        found = [split_sample(dataset[i])[1] for i in range(len(dataset))]
    return [_plain(label) for label in found]


def _plain(label: Any) -> Any:
    if isinstance(label, (str, list, tuple)) or getattr(label, "ndim", 0) == 1:
        return label
    return _index(label)


def class_names(dataset: Any) -> list[str] | None:
    """Return a data set's class names in index order; None if it does not tell.

    They are its attribute `classes` or `class_to_idx` (torchvision's `ImageFolder`), those of its
    `reader` (timm), or the `ClassLabel` of a `datasets.Dataset`; also through `Subset` and
    `ConcatDataset`. A `target_transform` is asked what it makes of each index.

    Raises:
        LabelError: the parts of a `ConcatDataset` disagree.
    """
    dataset = _unwrapped(dataset)
    if isinstance(dataset, ConcatDataset):
        names = [class_names(part) for part in dataset.datasets]
        if any(other != names[0] for other in names):
            raise LabelError("the parts of a ConcatDataset have different classes; give a scheme")
        return names[0]
    if (key := _label_column(dataset)) is not None:
        names_there = getattr(dataset.features[key], "names", None)
        return None if names_there is None else list(names_there)
    declared = _declared_names(dataset)
    convert = getattr(dataset, "target_transform", None)
    return declared if declared is None or convert is None else _converted(declared, convert)


def _declared_names(dataset: Any) -> list[str] | None:
    for holder in (dataset, getattr(dataset, "reader", None)):
        for attribute in ("class_to_idx", "class_name_to_idx"):
            mapping = getattr(holder, attribute, None)
            if isinstance(mapping, Mapping) and mapping:
                if sorted(mapping.values()) != list(range(len(mapping))):
                    return None  # not counted from 0, or several names of one class
                return [str(name) for name in sorted(mapping, key=mapping.__getitem__)]
        names_there = getattr(holder, "classes", None)
        if isinstance(names_there, (list, tuple)) and names_there:
            return [str(name) for name in names_there]
    return None


def _converted(names: list[str], convert: Callable[[int], Any]) -> list[str] | None:
    """Return class names in the order of the indices that a target transform gives them."""
    moved = _moved_classes(LabelScheme(dict(enumerate(names)), {}), convert)
    order = {} if moved is None else {index: names[old] for old, index in moved.items()}
    return [order[i] for i in range(len(names))] if set(order) == set(range(len(names))) else None


def _moved_classes(scheme: LabelScheme, convert: Callable[[int], Any]) -> dict[int, int] | None:
    """Return the index that a target transform gives each class, also as a one-hot vector.

    None where it gives anything else but the class's own name, or merges classes.
    """
    moved: dict[int, int] = {}
    for index in scheme.classes:
        try:
            label = convert(index)
            if isinstance(label, (list, tuple)) or getattr(label, "ndim", 0) == 1:
                label = _majority(label, scheme)
            named = isinstance(label, str) and label == scheme.classes[index]
            moved[index] = index if named else _index(label)
        except Exception:  # a user's function, made for other labels
            return None
    return moved if len(set(moved.values())) == len(moved) else None


def dataset_scheme(dataset: Any, given: SchemeLike | None = None) -> LabelScheme:
    """Return the label scheme of a data set: its own, or the one that is given.

    Args:
        dataset: map-style. Its attribute `scheme` (`FaceDataset`) or its class names tell what its
            labels mean.
        given: what the user says; a mapping goes by the set's class names where it tells them.

    Raises:
        LabelError: the set does not tell and nothing is given; a class name means no expression;
            or what is given contradicts the class names: the message names the first index.
    """
    if (known := own_scheme(dataset)) is None:
        return scheme_for_classes(class_names(dataset), given, type(_unwrapped(dataset)).__name__)
    if given is not None:
        agreed_scheme(known, LabelScheme.resolve(given))
    return known


def own_scheme(dataset: Any) -> LabelScheme | None:
    """Return a data set's attribute `scheme`, numbered as its `target_transform` numbers classes.

    Also through `Subset`. None if it has none, or the target transform is no renumbering.
    """
    dataset = _unwrapped(dataset)
    known, convert = (getattr(dataset, name, None) for name in ("scheme", "target_transform"))
    if not isinstance(known, LabelScheme) or convert is None:
        return known if isinstance(known, LabelScheme) else None
    if (moved := _moved_classes(known, convert)) is None:
        return None
    order = sorted(moved, key=moved.__getitem__)
    classes = {moved[i]: known.classes[i] for i in order}
    return LabelScheme(classes, {moved[i]: known.expressions[i] for i in order}, known.name)


def _unwrapped(dataset: Any) -> Any:
    return _unwrapped(dataset.dataset) if isinstance(dataset, Subset) else dataset


def agreed_scheme(own: LabelScheme, given: LabelScheme | None = None) -> LabelScheme:
    """Return the scheme that was given for a data set, or else the set's own.

    Raises:
        LabelError: they contradict each other; the message names the first index.
    """
    if given is None:
        return own
    _check_same(given, own.classes, own.expressions)
    return given


def scheme_for_classes(
    names: Sequence[str] | None, given: SchemeLike | None = None, owner: str = "the data set"
) -> LabelScheme:
    """Return the label scheme of classes, as `dataset_scheme` does.

    Args:
        names: of the classes in index order; None if they are not known.
        given: what the user says that they mean.
        owner: what messages call the data set.
    """
    if names is None:
        if given is None:
            raise LabelError(
                f"{owner} does not tell what its labels mean: give scheme a published scheme's "
                f"name ('fer2013', ...), the class names in index order, or a mapping"
            )
        return LabelScheme.resolve(given)
    if given is None:
        return LabelScheme.from_classes(names)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        missing = [name for name in names if name not in given]
        if unknown or missing:
            raise LabelError(
                f"the scheme must map every class of {owner} and nothing else; "
                + (f"it does not have {', '.join(map(repr, missing))}; " if missing else "")
                + (f"there is no class {', '.join(map(repr, unknown))}" if unknown else "")
            )
        return LabelScheme.from_mapping({name: given[name] for name in names})
    scheme = LabelScheme.resolve(given)
    shown: dict[int, Expression | None] = {}
    for index, name in enumerate(names):
        try:
            shown[index] = Expression.parse(name)
        except LabelError:
            # the word means no expression by itself: the scheme says what it means
            shown[index] = scheme.expressions.get(index)
    _check_same(scheme, dict(enumerate(names)), shown)
    return scheme


def _check_same(
    given: LabelScheme, names: Mapping[int, str], shown: Mapping[int, Expression | None]
) -> None:
    """Raise LabelError at the first index at which a scheme says something else than a set."""
    for index in sorted({*given.classes, *names}):
        says = given.expressions.get(index)
        if index in names and index in given.classes and says == shown[index]:
            continue
        said = f"{given.classes[index]!r} ({says})" if index in given.classes else "no class"
        has = f"{names[index]!r} ({shown[index]})" if index in names else "no class"
        raise LabelError(
            f"label scheme {given.name!r} contradicts the data set: at index {index} the scheme "
            f"has {said} and the data set {has}. Leave the scheme out to take the data set's own"
        )


def _label_column(dataset: Any) -> str | None:
    """Return the label column of a `datasets.Dataset`; None if it is no such set."""
    columns, features = (getattr(dataset, name, None) for name in ("column_names", "features"))
    if not (isinstance(columns, list) and isinstance(features, Mapping)):
        return None
    key = find_key(features, LABEL_KEYS)
    if key is None:
        raise LabelError(f"no column {' or '.join(LABEL_KEYS)}; there are {', '.join(columns)}")
    return key
