"""Training sets: where faces and labels come from."""

from expraug.datasets.readers import FaceDataset, list_datasets, open_dataset
from expraug.datasets.source import FaceItem, FolderSource, ParquetSource, open_source
from expraug.datasets.split import person_split

__all__ = [
    "FaceDataset",
    "FaceItem",
    "FolderSource",
    "ParquetSource",
    "list_datasets",
    "open_dataset",
    "open_source",
    "person_split",
]
