"""WebDataset: tar files of samples, each an image, its label and where it came from."""

from __future__ import annotations

import io
import json
import os
import tarfile
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from expraug.expand.indices import ABOUT
from expraug.expand.manifest import values_of
from expraug.expand.writers import Face, source_of


class WebDatasetWriter:
    """Writes `data/synthetic-<chunk>.tar` and `data/original-<chunk>.tar`.

    A sample is `s<chunk>_<number>` or `o<chunk>_<number>` with `.png` (or what the image is),
    `.cls`, the label as a number, and `.json`, the columns of the manifest. Keys hold no names,
    since the format ends a key at its first dot. Times and owners are left out, so equal samples
    give equal files.

    Args:
        folder, staging, chunk: as `create_writer` takes them.
    """

    def __init__(self, folder: Path, staging: Path, chunk: int) -> None:
        self.folder, self.staging, self.chunk = folder, staging, chunk
        self._shards: dict[str, _Shard] = {}

    def stage(self, face: Face) -> Face:
        return face

    def append(self, face: Face) -> str:
        kind = "original" if face.row is None else "synthetic"
        name = f"data/{kind}-{self.chunk:06d}.tar"
        if name not in self._shards:
            self._shards[name] = _Shard(self.staging / f"{uuid.uuid4().hex}.tar")
        shard = self._shards[name]
        key = f"{kind[0]}{self.chunk:06d}_{shard.count:05d}"
        suffix = PurePosixPath(face.name).suffix.lower().replace(".jpeg", ".jpg")
        data = face.data if isinstance(face.data, bytes) else face.data.read_bytes()
        shard.add({f"{key}{suffix}": data, f"{key}.cls": b"%d" % face.label} | _about(key, face))
        return f"{name}/{key}{suffix}"

    def close(self) -> None:
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        for name, shard in self._shards.items():
            shard.tar.close()
            os.replace(shard.path, self.folder / name)

    def abort(self) -> None:
        for shard in self._shards.values():
            shard.tar.close()
            shard.path.unlink(missing_ok=True)


class _Shard:
    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.tar = tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT)

    def add(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            self.tar.addfile(member, io.BytesIO(data))
        self.count += 1


def _about(key: str, face: Face) -> dict[str, bytes]:
    if face.row is None:
        about: dict[str, Any] = dict.fromkeys(ABOUT) | source_of(face.item)
    else:
        about = {k: v for k, v in values_of(face.row).items() if k in ABOUT}
    about |= {"name": face.name, "synthetic": face.row is not None}
    return {f"{key}.json": json.dumps(about, sort_keys=True).encode()}
