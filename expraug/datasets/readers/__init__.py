"""Readers: published data sets, each from the layout in which its owners distribute it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expraug.datasets.readers.affectnet import AffectNet
from expraug.datasets.readers.ckplus import CKPlus
from expraug.datasets.readers.clip import Clip
from expraug.datasets.readers.expw import ExpW
from expraug.datasets.readers.face_dataset import FaceDataset
from expraug.datasets.readers.fer2013 import FER2013
from expraug.datasets.readers.ferplus import FERPlus
from expraug.datasets.readers.jaffe import JAFFE
from expraug.datasets.readers.kdef import KDEF
from expraug.datasets.readers.layout import LayoutError, Skipped
from expraug.datasets.readers.mug import MUG
from expraug.datasets.readers.oulu_casia import OuluCASIA
from expraug.datasets.readers.rafd import RaFD
from expraug.datasets.readers.rafdb import RAFDB

READERS: dict[str, type[FaceDataset]] = {
    "fer2013": FER2013,
    "fer+": FERPlus,
    "raf-db": RAFDB,
    "affectnet": AffectNet,
    "expw": ExpW,
    "ck+": CKPlus,
    "jaffe": JAFFE,
    "kdef": KDEF,
    "rafd": RaFD,
    "oulu-casia": OuluCASIA,
    "mug": MUG,
}


def list_datasets() -> list[str]:
    """Return the names that `open_dataset` takes."""
    return list(READERS)


def plain_name(name: str) -> str:
    """Return a name as it is compared: "RAF-DB", "raf_db" and "rafdb" are one."""
    return name.lower().replace("+", "plus").replace("-", "").replace("_", "")


def open_dataset(name: str, root: str | Path, **kwargs: Any) -> FaceDataset:
    """Open a published data set by name.

    Args:
        name: one of `list_datasets()`, in any spelling of its kind ("RAF-DB", "rafdb", "ckplus").
        root: the folder it is unpacked in.
        kwargs: as the set's own class takes them: `split`, `transform`, or `angles` of `KDEF`.

    Raises:
        ValueError: no data set of that name, or no such split.
        LayoutError: the folder does not hold it.
    """
    readers = {plain_name(known): reader for known, reader in READERS.items()}
    reader = readers.get(plain_name(name))
    if reader is None:
        raise ValueError(f"no data set {name!r}; there are {', '.join(READERS)}")
    return reader(root, **kwargs)


__all__ = [
    "FER2013",
    "JAFFE",
    "KDEF",
    "MUG",
    "RAFDB",
    "READERS",
    "AffectNet",
    "CKPlus",
    "Clip",
    "ExpW",
    "FERPlus",
    "FaceDataset",
    "LayoutError",
    "OuluCASIA",
    "RaFD",
    "Skipped",
    "list_datasets",
    "open_dataset",
]
