"""Where the pictures of an expanded set lie: files in folders, tar shards, or parquet files."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq

from expraug.datasets.exclusions import listed_origin
from expraug.datasets.source import FaceItem, FaceSource
from expraug.expand.layout import DATA
from expraug.expand.naming import digest_of, original_path
from expraug.faces.image import MAX_FILE_BYTES
from expraug.review.thumbnail import thumbnail

SHOWN_BY_BROWSERS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


def address(path: Path, page: Path) -> str:
    """Return a link from a page to a file; relative, so that both can be moved together."""
    try:
        there = os.path.relpath(path, page.resolve().parent)
    except ValueError:  # on another drive
        return path.resolve().as_uri()
    return quote(os.fsencode(there.replace(os.sep, "/")))


def inside(folder: Path, name: str) -> Path | None:
    """Return the file of a name in a folder; None for one that leads out of it, or nowhere."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        return None
    path = folder / parts
    try:
        return path if path.is_file() and path.resolve().is_relative_to(folder.resolve()) else None
    except OSError:  # a name that is too long
        return None


class SetPictures:
    """The pictures of one expanded set, as what the `src` of an image in a page can be.

    Args:
        folder: the set.
        page: the page that shows them.
        embed: put all of them into the page, not only those that lie in shards.
        files: the synthetic faces, as the manifest names them.
        sources: origins of the sources whose copies are shown.
    """

    def __init__(
        self,
        folder: Path,
        page: Path,
        embed: bool,
        files: Collection[str],
        sources: Collection[str],
    ) -> None:
        self.folder, self.page, self.embed = folder, page, embed
        self._files, wanted = set(files), set(sources)
        self._made: dict[str, str] = {}
        self._originals: dict[str, str] = {}
        for shard, name, data, about in self._in_shards():
            if about.get("synthetic"):
                if (file := f"{shard}/{name}") in self._files and (uri := thumbnail(data)):
                    self._made[file] = uri
            elif (source := about.get("source")) in wanted and (uri := thumbnail(data)):
                self._originals[source] = uri

    def synthetic(self, file: str) -> str | None:
        """Return the picture of a synthetic face; None where it is gone."""
        return self._made.get(file) or self._linked(file)

    def original(self, source: str, source_class: str) -> str | None:
        """Return the picture of a source that was copied along; None where none was."""
        if source in self._originals:
            return self._originals[source]
        if not PurePosixPath(source).name:  # no manifest of ours has that
            return None
        path = original_path(source_class, source, PurePosixPath(source).stem)
        stem, dot, suffix = path.rpartition(".")
        # a copy whose name would be another's has a digest in it
        other = f"{stem}-{digest_of(source)}{dot}{suffix}" if dot else path
        found = (name for name in (other, path) if name not in self._files)
        return next((picture for name in found if (picture := self._linked(name))), None)

    def _linked(self, name: str) -> str | None:
        path = inside(self.folder, name)
        return None if path is None else picture(path, self.page, self.embed)

    def _in_shards(self) -> Iterator[tuple[str, str, bytes, Mapping[str, Any]]]:
        """Yield shard, name, bytes and origin of all pictures in tar and parquet files."""
        for path in sorted((self.folder / DATA).glob("*")):
            shard = f"{DATA}/{path.name}"
            if path.is_symlink() or not path.is_file():
                continue
            if path.suffix == ".tar":
                yield from ((shard, *found) for found in _in_tar(path))
            elif path.suffix == ".parquet":
                yield from ((shard, *found) for found in _in_parquet(path))


def picture(path: Path, page: Path, embed: bool) -> str | None:
    """Return a picture file as a link, or as a thumbnail where a page is to hold it."""
    if embed or path.suffix.lower() not in SHOWN_BY_BROWSERS:
        return thumbnail(path)
    return address(path, page)


class SourcePictures:
    """The pictures of the source set, by origin.

    Args:
        source: the set.
        page, embed: as `SetPictures` takes them.
    """

    def __init__(self, source: FaceSource, page: Path, embed: bool) -> None:
        self._set = source
        self._page, self._embed = page, embed
        listing = enumerate(self._set.listing())
        self._index = {listed_origin(listed.origin): i for i, listed in listing}

    def __call__(self, origin: str) -> str | None:
        """Return the picture of a source; None where there is none of this origin."""
        if (index := self._index.get(origin)) is None:
            return None
        item: FaceItem = self._set[index]
        if isinstance(item.file, Path) and item.box is None:
            return picture(item.file, self._page, self._embed)
        try:
            return thumbnail(item.read())
        except OSError:
            return None


def _in_tar(path: Path) -> Iterator[tuple[str, bytes, Mapping[str, Any]]]:
    """Yield the pictures of a WebDataset shard; nothing more where it is damaged."""
    picture: tuple[str, bytes] | None = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isreg() or member.size > MAX_FILE_BYTES:
                    continue
                file = tar.extractfile(member)
                data = b"" if file is None else file.read()
                key, _, kind = member.name.rpartition(".")
                if kind == "json" and picture and picture[0].rpartition(".")[0] == key:
                    about = json.loads(data)
                    if isinstance(about, dict):
                        yield (*picture, about)
                elif kind != "cls":
                    picture = member.name, data
    except (tarfile.TarError, OSError, ValueError):
        return


def _in_parquet(path: Path) -> Iterator[tuple[str, bytes, Mapping[str, Any]]]:
    """Yield the pictures of a parquet file; nothing more where it is damaged."""
    columns = ["image", "synthetic", "source"]
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    image = row["image"] or {}
                    if image.get("bytes") and image.get("path"):
                        yield image["path"], image["bytes"], row
    except (OSError, ValueError, KeyError):  # pyarrow's errors on damaged files are ValueErrors
        return
