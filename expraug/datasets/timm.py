"""timm: a wrapper of its `ImageDataset` in the shape of its `AugMixDataset`.

timm's transforms see the image alone, so a change of the label has to happen in the data set,
before them. `create_loader` sets the `transform` of what it is given; the wrapper keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from expraug.datasets.augmented import ExpressionAugmentedDataset
from expraug.datasets.modes import Mode
from expraug.labels import SchemeLike
from expraug.pipeline import ExpressionAugmenter
from expraug.pipeline.samples import AugmentedSample


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
        augmenter: samples the requests and makes the faces.
        scheme: what the targets mean; None reads it off the reader's class names.
        soft_labels: see above.
        mode, copies, p, seed, labels: as in `ExpressionAugmentedDataset`.

    Attributes:
        transform: applied to the image after synthesis; `create_loader` sets it.

    Raises:
        LabelError, ValueError: as `ExpressionAugmentedDataset`.

    Examples:
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
        scheme: SchemeLike | None = None,
        *,
        soft_labels: bool = False,
        mode: Mode = "add",
        copies: int = 1,
        p: float | None = None,
        seed: int | None = None,
        labels: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            augmenter,
            scheme,
            mode=mode,
            copies=copies,
            p=p,
            seed=seed,
            labels=_labels(dataset) if labels is None else labels,
        )
        self.soft_labels = soft_labels
        # the base's own would come before synthesis
        self.transform: Callable[[Any], Any] | None = dataset.transform
        dataset.transform = None

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, target = super().__getitem__(index)[:2]
        target = self._dense(target) if self.soft_labels else target
        return image if self.transform is None else self.transform(image), target

    def _new_label(self, label: Any, made: AugmentedSample) -> Any:
        if not self.soft_labels or made.request is None:
            return made.label
        share = made.request.intensity
        return (1 - share) * self._dense(label) + share * self._dense(made.label)

    def _dense(self, label: Any) -> np.ndarray:
        """Return the share of each class, (classes,) float32, of a label in any form."""
        if isinstance(label, Tensor):
            label = label.detach().cpu().numpy()
        if np.ndim(label) == 1:
            return np.asarray(label, np.float32)
        classes = self.scheme.classes
        dense = np.zeros(len(classes), np.float32)
        dense[list(classes.values() if isinstance(label, str) else classes).index(label)] = 1
        return dense


def _labels(dataset: Any) -> list[Any] | None:
    """Return the targets that a timm reader knows without opening an image."""
    reader: Any = getattr(dataset, "reader", None)
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
