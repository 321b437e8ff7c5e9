"""timm: a wrapper of its `ImageDataset` in the shape of its `AugMixDataset`.

timm's transforms see the image alone, so a change of the label has to happen in the data set,
before them. `create_loader` sets the `transform` of what it is given; the wrapper keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from expraug.datasets.augmented import ExpressionAugmentedDataset, Mode
from expraug.expressions import LabelScheme
from expraug.labels import write_label
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest


class ExpressionMixDataset(ExpressionAugmentedDataset):
    """An `ExpressionAugmentedDataset` that timm's `create_loader` takes.

    Samples are tuples (image, target); the transform of the base becomes that of the wrapper, and
    comes after synthesis.

    With `soft_labels`, targets are dense: a face made with intensity 0.6 has 0.6 of the expression
    that it was given and 0.4 of its own. They suit `SoftTargetCrossEntropy`. timm's `Mixup` makes
    its own soft labels: leave `soft_labels` off with it, or give it
    `multi_label=True, label_smoothing=0`.

    Args:
        dataset: a `timm.data.ImageDataset`, or any map-style set of (image, target) with an
            attribute `transform`.
        augmenter: draws and makes the faces.
        scheme: what the targets mean; None reads it off the reader's class names.
        soft_labels: see above.
        mode, copies, p, seed, labels: as in `ExpressionAugmentedDataset`.

    Raises:
        LabelError, ValueError: as `ExpressionAugmentedDataset`.

    Example:
        >>> import timm.data
        >>> from expraug import ExpressionAugmenter
        >>> faces = timm.data.create_dataset("", "examples/faces")
        >>> mixed = ExpressionMixDataset(faces, ExpressionAugmenter("pixel"))
        >>> len(faces), len(mixed)
        (20, 40)
        >>> loader = timm.data.create_loader(
        ...     mixed, input_size=96, batch_size=8, is_training=True, use_prefetcher=False
        ... )
    """

    def __init__(
        self,
        dataset: Any,
        augmenter: ExpressionAugmenter,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None] | None = None,
        *,
        soft_labels: bool = False,
        mode: Mode = "add",
        copies: int = 1,
        p: float | None = None,
        seed: int | None = None,
        labels: Sequence[Any] | None = None,
    ) -> None:
        reader = getattr(dataset, "reader", None)
        super().__init__(
            dataset,
            augmenter,
            _classes(reader) if scheme is None else scheme,
            mode=mode,
            copies=copies,
            p=p,
            seed=seed,
            labels=_labels(dataset, reader) if labels is None else labels,
        )
        self.soft_labels = soft_labels
        self._first_class = min(self.scheme.classes)
        # the base's own would come before synthesis
        self._transform, dataset.transform = dataset.transform, None

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        """Applied to the image after synthesis; `create_loader` sets it."""
        return self._transform

    @transform.setter
    def transform(self, transform: Callable[[Any], Any] | None) -> None:
        self._transform = transform

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, target = super().__getitem__(index)[:2]
        if self.soft_labels and not isinstance(target, np.ndarray):
            target = self._dense({target: 1.0})
        return image if self._transform is None else self._transform(image), target

    def _changed(self, sample: Any, draw: SynthesisRequest, planned_label: Any) -> Any:
        image, target = super()._changed(sample, draw, planned_label)[:2]
        own = sample[1]
        if not self.soft_labels or target == own:
            return image, target
        made = write_label(own, self.scheme, draw.target)
        return image, self._dense({own: 1 - draw.intensity, made: draw.intensity})

    def _dense(self, shares: Mapping[Any, float]) -> np.ndarray:
        """Return (classes,) float32 from shares by class index."""
        dense = np.zeros(len(self.scheme), np.float32)
        for index, share in shares.items():
            dense[int(index) - self._first_class] = share
        return dense


def _classes(reader: Any) -> list[str] | None:
    """Return the class names that a timm reader knows, in index order."""
    for name in ("class_to_idx", "class_name_to_idx"):
        if mapping := getattr(reader, name, None):
            return sorted(mapping, key=mapping.__getitem__)
    return None


def _labels(dataset: Any, reader: Any) -> list[Any] | None:
    """Return the targets that a timm reader knows without opening an image."""
    if hasattr(reader, "targets"):  # tar files
        found = [int(target) for target in reader.targets]
    elif hasattr(reader, "iter_targets"):  # `datasets`
        found = list(reader.iter_targets())
    elif hasattr(reader, "samples"):  # image folder
        found = [target for _, target in reader.samples]
    else:
        return None
    convert = dataset.target_transform
    return found if convert is None else [convert(target) for target in found]
