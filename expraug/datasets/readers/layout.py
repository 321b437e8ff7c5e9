"""Finding a data set's files, and saying what was expected where they are not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from expraug.datasets.source import IMAGE_SUFFIXES, FaceItem
from expraug.errors import ExpraugError

MISSING = "missing_file"
"""Reason of what a list or an annotation names and the folder does not hold."""


class LayoutError(ExpraugError, FileNotFoundError):
    """A folder does not hold a data set as its owners distribute it."""

    reason = "layout"


class Skipped(NamedTuple):
    """Something in a data set's folder that gives no labelled face.

    `reason` is "missing_file", "stray_file" (an image that the set does not have), "no_expression"
    (the set's own label says that it shows none), "no_annotation" or "damaged_annotation".
    """

    origin: str
    reason: str


def layout_error(name: str, root: Path, layout: str, problem: str) -> LayoutError:
    """Return the error that shows the layout that was expected and what there is."""
    expected = "\n".join(f"  {line}" for line in layout.strip("\n").splitlines())
    return LayoutError(
        f"{root}: {problem}.\n{name} is expected as its owners distribute it, unpacked:\n"
        f"{expected}\nfound:\n{_found(root)}"
    )


def _found(root: Path) -> str:
    if not root.exists():
        return "  no such folder"
    if not root.is_dir():
        return f"  a file of {root.stat().st_size} bytes"
    lines = []
    for entry in _entries(root, 12):
        inside = ""
        if entry.is_dir():
            names = [child.name for child in _entries(Path(entry), 4)]
            inside = "/  " + (", ".join(names[:3]) + (", …" if names[3:] else "") or "(empty)")
        lines.append(f"  {entry.name}{inside}")
    return "\n".join([*lines[:11], *(["  …"] if lines[11:] else [])]) or "  an empty folder"


def _entries(folder: Path, limit: int) -> list[os.DirEntry[str]]:
    """Return the first entries of a folder by name, among the first thousand of a large one."""
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, 1000), key=lambda entry: entry.name)[:limit]
    except OSError:  # may not be read
        return []


def first_there(root: Path, *candidates: str) -> Path | None:
    """Return the first of some paths below `root` that there is."""
    return next((root / c for c in candidates if (root / c).exists()), None)


def is_image(path: Path) -> bool:
    """Say whether a file's name is that of an image; hidden files ("._a.png") are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder, by name; none if there is no such folder."""
    return sorted(filter(is_image, folder.iterdir())) if folder.is_dir() else []


def images_below(root: Path) -> Iterator[Path]:
    """Yield the images in a folder and all folders below it, by path."""
    return filter(is_image, sorted(root.rglob("*")))


def folders_in(root: Path) -> list[Path]:
    """Return the folders in a folder, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir())


def missing_files(items: Sequence[FaceItem]) -> set[int]:
    """Return the indices of items whose file is not there; each folder is listed once."""
    wanted: dict[Path, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        if isinstance(item.file, Path):
            wanted[item.file.parent].append(index)
    missing: set[int] = set()
    for folder, indices in wanted.items():
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        missing.update(i for i in indices if Path(str(items[i].file)).name not in there)
    return missing
