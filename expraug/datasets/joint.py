"""A transform that sees image and label, for data sets whose own `transform=` sees the image alone.

It changes what a sample shows and what it is called together, so it has to stand around the data
set, and that is where the class names are known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from expraug.expressions import LabelScheme
from expraug.labels import (
    SchemeLike,
    class_names,
    dataset_scheme,
    join_sample,
    labels_of,
    own_scheme,
    split_sample,
)


class JointTransform(Dataset[Any]):
    """Wraps a map-style data set so that a transform changes image and label of a sample together.

    What the labels mean is read off the data set and told to every `RandomExpression` in the
    transform; one that was given another scheme is refused.

    Args:
        dataset: of `(image, label, ...)` or a dict of both.
        transform: a torchvision v2 transform or any function, called as torchvision calls
            `transforms=`, with the elements of the sample, transform(image, label, ...), and with
            the dict where a sample is one; it returns the sample. Or an albumentations transform,
            which gets `image=` (an array) and `label=` (or the `label_key` of its
            `RandomExpression`), and whose results take the places of both.
        scheme: what the labels mean; None reads it off the data set (`dataset_scheme`).

    Attributes:
        transform: None, or a function for the image alone, applied last. timm's `create_loader`
            sets it.
        classes: of the data set.
        class_to_idx: of the data set.
        targets: of the data set, before the transform.
        scheme: what the labels mean; None where neither the data set nor the transform tells.

    Raises:
        LabelError: the scheme, or that of a `RandomExpression`, contradicts the data set (the
            message names the first index), or a `RandomExpression` has none and the data set does
            not tell.

    Examples:
        >>> from torchvision.datasets import ImageFolder
        >>> from torchvision.transforms import v2
        >>> folder = ImageFolder("examples/faces")
        >>> train = JointTransform(folder, v2.Compose([v2.RandomHorizontalFlip(), v2.ToImage()]))
        >>> image, label = train[0]
        >>> image.shape, train.classes[label]
        (torch.Size([3, 256, 256]), 'happy')
    """

    def __init__(
        self, dataset: Any, transform: Callable[..., Any], scheme: SchemeLike | None = None
    ) -> None:
        self.dataset = dataset
        self.transforms = transform
        self.transform: Callable[[Any], Any] | None = None
        self.scheme = None if scheme is None else dataset_scheme(dataset, scheme)
        self._albumentations = _is_albumentations(transform)
        self._label_key = "label"
        for expression in _expression_transforms(transform):
            own: LabelScheme | None = getattr(expression, "scheme", None)
            # where class names are words of their own, the transform's scheme tells their meaning
            self.scheme = self.scheme or dataset_scheme(dataset, own)
            expression.bind(self.scheme)
            self._label_key = getattr(expression, "label_key", None) or self._label_key
        if self.scheme is None:
            self.scheme = own_scheme(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        if self._albumentations:
            image, label = split_sample(sample)
            made = self.transforms(image=_pixels(image), **{self._label_key: label})
            sample = join_sample(sample, made["image"], made[self._label_key])
        elif isinstance(sample, (tuple, list)):
            sample = self.transforms(*sample)
        else:
            sample = self.transforms(sample)
        if self.transform is None:
            return sample
        image, label = split_sample(sample)
        return join_sample(sample, self.transform(image), label)

    @property
    def classes(self) -> list[str]:
        names = class_names(self.dataset)
        if names is None:
            raise AttributeError(f"{type(self.dataset).__name__} does not tell its classes")
        return names

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    @property
    def targets(self) -> list[Any]:
        return labels_of(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch to the data set and to each part of the transform that asks for it."""
        for part in (self.dataset, *_parts(self.transforms)):
            if callable(getattr(part, "set_epoch", None)):
                part.set_epoch(epoch)

    def __repr__(self) -> str:
        return f"JointTransform({self.dataset!r}, {self.transforms!r})"


def _parts(transform: Any) -> Iterator[Any]:
    """Yield a transform and all that it is composed of, in torchvision or albumentations."""
    yield transform
    # v2.Compose and its like keep theirs in a plain list, which children() does not show
    inner = getattr(transform, "transforms", ())
    inner = list(inner) if isinstance(inner, (list, tuple, nn.ModuleList)) else []
    children = list(transform.children()) if isinstance(transform, nn.Module) else []
    seen = {id(part) for part in inner}
    for part in (*inner, *(child for child in children if id(child) not in seen)):
        yield from _parts(part)


def _expression_transforms(transform: Any) -> list[Any]:
    """Return every `RandomExpression` in a transform, each once."""
    found = {id(part): part for part in _parts(transform) if callable(getattr(part, "bind", None))}
    return list(found.values())


def _is_albumentations(transform: Any) -> bool:
    library = sys.modules.get("albumentations")  # imported, if the transform is one of its own
    return library is not None and isinstance(
        transform, (library.BaseCompose, library.BasicTransform)
    )


def _pixels(image: Any) -> np.ndarray:
    """Return an image as albumentations takes it: (H, W) or (H, W, C)."""
    if isinstance(image, Image.Image):
        return np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if isinstance(image, Tensor):
        array: np.ndarray = image.detach().cpu().numpy()
        return array.transpose(1, 2, 0) if array.ndim == 3 else array
    return np.asarray(image)
