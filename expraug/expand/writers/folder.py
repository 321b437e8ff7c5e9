"""An ImageFolder: one sub-folder per class, one file per face."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expraug.expand.parts import DestinationError
from expraug.expand.writers import Face
from expraug.faces.image_file import replacing


class FolderWriter:
    """Writes each face as a file of its own.

    Args:
        folder, staging: as `create_writer` takes them.
    """

    def __init__(self, folder: Path, staging: Path) -> None:
        self.folder, self.staging = folder, staging

    def stage(self, face: Face) -> Face:
        path = self.folder / face.name
        with replacing(path, self.staging) as partial:
            if isinstance(face.data, bytes):
                partial.write_bytes(face.data)
            else:
                shutil.copyfile(face.data, partial)
        return replace(face, data=b"")

    def append(self, face: Face) -> str:
        return face.name

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def make_class_folders(folder: Path, classes: Sequence[str]) -> None:
    """Make a folder for every class, also for those that stay empty: it keeps the others' indices.

    Raises:
        DestinationError: a link leads one elsewhere.
    """
    for name in classes:
        path = folder / name
        path.mkdir(parents=True, exist_ok=True)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DestinationError(f"{path} is a link that leads out of {folder}; remove it")
