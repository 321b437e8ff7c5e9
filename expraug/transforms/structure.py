"""Where image and label are in a sample of torchvision's v2 transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torchvision import tv_tensors

from expraug.errors import LabelError
from expraug.labels import IMAGE_KEYS, LABEL_KEYS, find_key
from expraug.transforms.labelled import ALONE

LabelsGetter = Callable[[Any], Any]
"""Picks the label out of a sample, by its place."""


class Leaf:
    """Stands for an element of a sample while image and label are looked for.

    They are told by their place: equal integers may stand elsewhere.
    """

    def __init__(self, position: int, value: Any) -> None:
        self.position, self.value = position, value


class SampleStructure:
    """A sample taken apart.

    Args:
        sample: any structure of tuples, lists and dicts.
        labels_getter: picks the label out of it; None looks for it.

    Attributes:
        image, label: of the sample.

    Raises:
        LabelError: there is no label in it, or no telling which one it is.
        ValueError: there is no image in it, or a list of images.
    """

    def __init__(self, sample: Any, labels_getter: LabelsGetter | None = None) -> None:
        self._leaves: list[Any]
        self._spec: TreeSpec
        self._leaves, self._spec = tree_flatten(
            sample, is_leaf=lambda part: part is not sample and _is_vector(part)
        )
        marked = tree_unflatten([Leaf(i, v) for i, v in enumerate(self._leaves)], self._spec)
        if isinstance(marked, Leaf):
            told = ALONE if is_image(sample) else "Pass (image, label), or a dict that names both"
            raise LabelError(f"found no label: got {type(sample).__name__} alone. {told}")
        _refuse_list_of_images(marked)
        label: Any = None
        if labels_getter is not None:
            label = _picked(labels_getter, marked)
        image = _find_image(marked, self._leaves, label)
        label = _find_label(marked, image) if label is None else label
        if label is None:
            raise LabelError(
                f"found no label, or several that it could be, in {type(sample).__name__}: pass "
                f"(image, label), or a dict with a key of {', '.join(LABEL_KEYS)}, or give "
                f"labels_getter a function that picks the label out of the sample"
            )
        self._image_at, self._label_at = image.position, label.position
        self.image, self.label = image.value, label.value

    def with_others(self, image: Any, label: Any) -> Any:
        """Return the sample with another image and label, all else as it was."""
        leaves = list(self._leaves)
        leaves[self._image_at], leaves[self._label_at] = image, label
        return tree_unflatten(leaves, self._spec)


def is_image(value: Any) -> bool:
    """Say whether a value is an image or a batch of them, by its kind alone."""
    if isinstance(value, Tensor):
        if isinstance(value, tv_tensors.TVTensor) and not isinstance(value, tv_tensors.Image):
            return False
        return value.ndim in (3, 4)
    if isinstance(value, np.ndarray):
        return value.ndim in (2, 3, 4)
    return isinstance(value, Image.Image)


def _is_vector(value: Any) -> bool:
    """Say whether a list is one label (one-hot), or the labels of a batch."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(isinstance(v, (int, float, np.number)) for v in value) or all(
        isinstance(v, str) for v in value
    )


def _refuse_list_of_images(marked: Any) -> None:
    elements = marked.values() if isinstance(marked, Mapping) else marked
    for element in elements:
        if isinstance(element, (list, tuple)) and any(
            isinstance(e, Leaf) and is_image(e.value) for e in element
        ):
            raise ValueError(
                "a list of images is neither a sample nor a batch: call the transform on each, or "
                "stack them to a (B, C, H, W) tensor, with labels of shape (B,) or (B, classes)"
            )


def _picked(labels_getter: LabelsGetter, marked: Any) -> Leaf:
    try:
        found = labels_getter(marked)
    except Exception as error:  # a user's function
        raise LabelError(f"labels_getter failed on the sample: {error!r}") from error
    if not isinstance(found, Leaf):
        raise LabelError(
            f"labels_getter must return one element of the sample, as it stands there; it returned "
            f"{type(found).__name__}"
        )
    return found


def _find_image(marked: Any, leaves: list[Any], label: Leaf | None) -> Leaf:
    if isinstance(marked, Mapping):
        key = find_key(marked, IMAGE_KEYS)
        if key is not None and isinstance(marked[key], Leaf):
            found: Leaf = marked[key]
            return found
    for kind in ((Image.Image, tv_tensors.Image), (Tensor, np.ndarray)):
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, kind) and is_image(leaf) and (label is None or i != label.position):
                return Leaf(i, leaf)
    raise ValueError(
        "found no image in the sample: it must be a PIL image, a (C, H, W) tensor, an (H, W, C) "
        "array, or a batch of them"
    )


def _find_label(marked: Any, image: Leaf) -> Leaf | None:
    """Return the label of a dict, or (image, label, ...), or (image, picture, label)."""
    if isinstance(marked, Mapping):
        key = find_key(marked, LABEL_KEYS)
        if key is None:
            key = next((k for k in marked if "label" in str(k).lower()), None)
        found = marked.get(key)
        return found if isinstance(found, Leaf) else None
    if len(marked) < 2:
        return None
    second = marked[1]
    if isinstance(second, Mapping):
        return _find_label(second, image)
    if not isinstance(second, Leaf):
        return None
    if len(marked) == 2 or not _is_picture(second, image):
        return second
    rest = [e for e in marked[2:] if isinstance(e, Leaf) and not _is_picture(e, image)]
    return rest[0] if len(rest) == 1 else None


def _is_picture(leaf: Leaf, image: Leaf) -> bool:
    """Say whether an element is the image, a mask of it or the like: no label."""
    value = leaf.value
    if leaf.position == image.position or isinstance(value, (Image.Image, tv_tensors.TVTensor)):
        return True
    in_batch = getattr(image.value, "ndim", 0) == 4
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim > (2 if in_batch else 1)
