"""Training sets: where faces and labels come from."""

from expraug.datasets.source import FaceItem, FolderSource, ParquetSource, open_source
from expraug.datasets.split import person_split

__all__ = ["FaceItem", "FolderSource", "ParquetSource", "open_source", "person_split"]
