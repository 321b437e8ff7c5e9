"""Which files an expanded set holds, in forms that no reader of image folders takes for data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expraug.expand.options import WriteKind

MANIFEST = "manifest.pq"
"""A parquet file, under a suffix that `**/*.parquet` does not find."""
CARD = "README.md"
SHEET = "contact_sheet.html"
"""One page with the picture in it: an image file beside the class folders would be a class."""
CLASSES = "classes.txt"
"""Class names in index order, one per line, as timm's `class_map` takes them; beside folders."""
INFO = "_info.json"
"""What timm must know of tar shards."""
WORK = ".expraug"
"""Folder that is there while the set is not complete."""

REVIEW = "review.html"
"""What `expraug review` writes."""

FILES = (MANIFEST, CARD, SHEET, CLASSES, INFO, REVIEW)
"""Files that lie beside the folders of a set."""

RESERVED = {name.lower() for name in (*FILES, WORK)}
"""No class folder may have one of these names."""

DATA = "data"
"""Folder of tar or parquet files."""


def work_folder(dest: Path, write: WriteKind, classes: Sequence[str]) -> Path:
    """Return where the work folder lies: in a folder that the set has anyway.

    Directly in the set it would be a class for readers of class folders. Beside the set it could
    be on another file system, and would outlive the set.
    """
    return dest / (classes[0] if write == "folder" else DATA) / WORK


def find_settings(dest: Path) -> Path | None:
    """Return the settings of an expansion that is not complete, if there is one."""
    return next(iter(sorted(dest.glob(f"*/{WORK}/settings.json"))), None)
