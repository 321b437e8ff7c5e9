"""Training sets: where faces and labels come from, and wrappers that add expressions to them.

Adapters to other libraries are imported by name: `expraug.datasets.timm`, `expraug.datasets.hf`.
"""

from expraug.datasets.augmented import ExpressionAugmentedDataset, is_synthetic
from expraug.datasets.sample import labels_of
from expraug.datasets.sampler import BalancedExpressionSampler
from expraug.datasets.source import FaceItem, FolderSource, ParquetSource, open_source
from expraug.datasets.split import person_split

__all__ = [
    "BalancedExpressionSampler",
    "ExpressionAugmentedDataset",
    "FaceItem",
    "FolderSource",
    "ParquetSource",
    "is_synthetic",
    "labels_of",
    "open_source",
    "person_split",
]
