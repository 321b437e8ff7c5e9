"""Training sets: where faces and labels come from, and wrappers that add expressions to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expraug.datasets.augmented import ExpressionAugmentedDataset, is_synthetic
from expraug.datasets.hf import ExpressionMap
from expraug.datasets.joint import JointTransform
from expraug.datasets.sampler import BalancedExpressionSampler
from expraug.datasets.source import FaceItem, FolderSource, ParquetSource, open_source
from expraug.datasets.split import person_split
from expraug.datasets.timm import ExpressionMixDataset
from expraug.labels import labels_of

if TYPE_CHECKING:
    from expraug.datasets.readers import FaceDataset, list_datasets, open_dataset

__all__ = [
    "BalancedExpressionSampler",
    "ExpressionAugmentedDataset",
    "ExpressionMap",
    "ExpressionMixDataset",
    "FaceDataset",
    "FaceItem",
    "FolderSource",
    "JointTransform",
    "ParquetSource",
    "is_synthetic",
    "labels_of",
    "list_datasets",
    "open_dataset",
    "open_source",
    "person_split",
]


def __getattr__(name: str) -> Any:
    if name not in ("FaceDataset", "list_datasets", "open_dataset"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from expraug.datasets import readers  # torchvision data sets, which take seconds to import

    return getattr(readers, name)
