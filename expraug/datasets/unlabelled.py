"""One image, or a folder of images without classes, as a set of faces that all show the same."""

from __future__ import annotations

import os
from pathlib import Path

from expraug.datasets.source import IMAGE_SUFFIXES, FaceItem, ItemSource, image_paths
from expraug.errors import LabelError
from expraug.expressions import Expression


def is_image(path: Path) -> bool:
    """Say whether a path is a file whose suffix is that of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def open_unlabelled(path: str | os.PathLike[str], shows: Expression | str) -> ItemSource:
    """Return a set with the eight expressions for classes, of faces that all show one of them.

    Args:
        path: an image, or a folder of images; those in its folders count as well, links to folders
            are not followed.
        shows: what all faces show.

    Raises:
        FileNotFoundError: no image there.
        LabelError: no such expression, or a folder in it has the name of one: it says what its
            faces show.
    """
    shown, root = str(Expression.parse(shows)), Path(path)
    if is_image(root):
        paths, prefix = [str(root)], str(root.parent)
    else:
        paths = image_paths(str(root))[0] if root.is_dir() else []
        _refuse_class_folders(root)
        prefix = str(root)
    if not paths:
        raise FileNotFoundError(f"{path}: no image, and no folder with images in it")
    origins = [os.path.relpath(found, prefix).replace(os.sep, "/") for found in paths]
    return ItemSource(
        [str(e) for e in Expression],
        [
            FaceItem(Path(found).stem, shown, origin, Path(found))
            for found, origin in zip(paths, origins, strict=True)
        ],
    )


def _refuse_class_folders(root: Path) -> None:
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            found = path.is_dir() and Expression.parse(path.name)
        except LabelError:
            continue
        if found is not False:
            raise LabelError(
                f"{root} has class folders, as {path.name!r}, which say what their faces show: "
                f"leave out --shows (shows=)"
            )
