"""An ImageFolder: one sub-folder a class, one file a face."""

from __future__ import annotations

import shutil
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
        self._made: set[Path] = set()

    def stage(self, face: Face) -> Face:
        path = self.folder / face.name
        if path.parent not in self._made:
            self._make(path.parent)
        with replacing(path, self.staging) as partial:
            if isinstance(face.data, bytes):
                partial.write_bytes(face.data)
            else:
                shutil.copyfile(face.data, partial)
        return replace(face, data=b"")

    def _make(self, folder: Path) -> None:
        """Make a class folder; raise DestinationError if a link leads it elsewhere."""
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.resolve().is_relative_to(self.folder.resolve()):
            raise DestinationError(f"{folder} is a link that leads out of {self.folder}; remove it")
        self._made.add(folder)

    def append(self, face: Face) -> str:
        return face.name

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass
