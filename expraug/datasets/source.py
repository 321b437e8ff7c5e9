"""Sets of labelled faces, read item by item so that damage stays local."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from expraug.datasets.image_column import ImageColumn
from expraug.datasets.png import png
from expraug.datasets.split import Split
from expraug.errors import UnreadableImageError
from expraug.faces.image import MAX_FILE_BYTES, MAX_PIXELS, read_image
from expraug.labels import IMAGE_KEYS, LABEL_KEYS, find_key

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files that torchvision's `ImageFolder` reads."""
PERSON_COLUMNS = ("identity", "person", "subject", "subject_id")

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a face in its image, in pixels."""


@dataclass(frozen=True)
class FaceItem:
    """One labelled image of a source set, not decoded yet.

    Args:
        stem: name for derived files: the file's own, without suffix.
        class_name: the set's own class name.
        origin: where it came from, for people: a path relative to the set, or "row 17".
        file: the image file, or its bytes.
        identity: who it shows, if the set says.
        box: where the face is, if the image is a whole photograph; `read` gives that part alone.
        split: the split that the set's owners put it in, if they did.
        votes: the share of annotators for each class, if the set says; they sum to 1.
    """

    stem: str
    class_name: str
    origin: str
    file: Path | bytes
    identity: str | None = None
    box: Box | None = None
    split: str | None = None
    votes: tuple[float, ...] | None = None

    def read(self, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_FILE_BYTES) -> np.ndarray:
        """Decode the face: (H, W) or (H, W, 3) uint8.

        Raises:
            UnreadableImageError, ImageTooLargeError: as `read_image` does; also for a box of which
                nothing lies in the image.
        """
        image = read_image(self.file, max_pixels=max_pixels, max_bytes=max_bytes)
        if self.box is None:
            return image
        left, top, right, bottom = self.box
        face = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if not face.size:
            height, width = image.shape[:2]
            raise UnreadableImageError(
                f"{self.origin}: the face's box {self.box} lies outside the {width}x{height} image"
            )
        return np.ascontiguousarray(face)

    def content(self) -> Path | bytes:
        """Return the face as a file: the item's own, or what its box cuts out, as PNG.

        Raises as `read` does.
        """
        return self.file if self.box is None else png(self.read())


class Listed(NamedTuple):
    """Class, origin and stem of an item, as in `FaceItem`."""

    class_name: str
    origin: str
    stem: str


class FaceSource(Protocol):
    """A source set: its class names in index order, and its items."""

    classes: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> FaceItem: ...

    def listing(self) -> list[Listed]:
        """Return every item without its file, in order: what a plan needs to know of the set."""
        ...


class FolderSource:
    """A folder with one sub-folder per class, in the order in which torchvision's `ImageFolder`
    reads it.

    Links to folders are not followed within a class folder, where they lead to files of another
    class, or to files that are listed already, or round in circles; a warning counts them. A link
    in the place of a class folder may lead anywhere but into the set or around it. Links to files
    are read as files.

    Raises:
        FileNotFoundError: no such folder, or no class folders in it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        folders = _class_folders(self.root)
        self.classes: list[str] = [folder.name for folder in folders]
        if not self.classes:
            raise FileNotFoundError(f"{self.root}: no class folders in it")
        self._prefix = os.path.join(str(self.root), "")
        self._paths: list[str] = []
        self._labels: list[int] = []
        links: list[str] = []
        for label, folder in enumerate(folders):
            paths, not_followed = image_paths(folder.path)
            self._paths += paths
            self._labels += [label] * len(paths)
            links += not_followed
        if links:
            warnings.warn(
                f"{len(links)} link(s) to folders are not followed, as {links[0]}: put the files "
                f"themselves, or links to them, into the class folder",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> FaceItem:
        class_name, origin, stem = self._listed(index)
        return FaceItem(stem, class_name, origin, Path(self._paths[index]))

    def _listed(self, index: int) -> Listed:
        path = self._paths[index]
        stem = os.path.splitext(os.path.basename(path))[0]
        origin = path[len(self._prefix) :].replace(os.sep, "/")
        return Listed(self.classes[self._labels[index]], origin, stem)

    def listing(self) -> list[Listed]:
        return [self._listed(index) for index in range(len(self))]


def _class_folders(root: Path) -> list[os.DirEntry[str]]:
    """Return the folders of a set, by name; without links that lead into the set or around it."""
    real = os.path.realpath(root)
    with os.scandir(root) as entries:
        folders = sorted((e for e in entries if e.is_dir()), key=lambda entry: entry.name)
    return [f for f in folders if not (f.is_symlink() and _overlap(os.path.realpath(f), real))]


def _overlap(target: str, root: str) -> bool:
    """Say whether two folders are one, or one of them lies in the other."""
    return os.path.commonpath([target, root]) in (target, root)


def image_paths(folder: str) -> tuple[list[str], list[str]]:
    """Return the images in a class folder, in `ImageFolder`'s order, and the links to folders."""
    found, links = list[tuple[str, list[str]]](), list[str]()
    for place, folders, names in os.walk(folder):
        links += [link for name in folders if os.path.islink(link := os.path.join(place, name))]
        found.append((place, sorted(n for n in names if n.lower().endswith(IMAGE_SUFFIXES))))
    paths = [os.path.join(place, name) for place, images in sorted(found) for name in images]
    return paths, links


class ParquetSource:
    """A parquet file in the `datasets` image format: a struct of bytes and path, and a label.

    Columns are found by their usual names: image (or img, face), label (or expression, emotion,
    class), identity (or person, subject) where there is one. Labels and names are kept in memory,
    images are read as they are asked for; see `ImageColumn`.

    Args:
        path: the file.
        label: the label column, if it has another name; rows without a label are left out then.

    Raises:
        ValueError: no image or label column, of which the message lists the columns there are; or
            images in another form.
    """

    def __init__(self, path: str | Path, label: str | None = None) -> None:
        self.path = Path(path)
        try:
            schema = pq.read_schema(self.path)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{self.path} is no parquet file; give a folder with one sub-folder per class, or "
                f"a parquet file"
            ) from error
        image = _column(schema.names, IMAGE_KEYS, self.path)
        kind = schema.field(image).type
        if not pa.types.is_struct(kind) or "bytes" not in [field.name for field in kind]:
            raise ValueError(
                f"{self.path}: the column {image!r} holds {kind}, not images as `datasets` writes "
                f"them, a struct of bytes and path; `Dataset.cast_column({image!r}, Image())` and "
                f"`to_parquet` write it so"
            )
        labelled = label is not None
        label = _column(schema.names, (label,) if label else LABEL_KEYS, self.path)
        person = next((c for c in PERSON_COLUMNS if c in schema.names), None)
        self._images = ImageColumn(self.path, image)
        columns = [c for c in (f"{image}.path", label, person) if c is not None]
        table = pq.ParquetFile(self.path).read(columns)
        names = _class_names(schema.metadata or {}, label)
        self._rows = list(range(len(table)))
        if labelled:
            self._rows = [i for i, known in enumerate(table[label].is_valid().to_pylist()) if known]
            table = table.take(self._rows)
        values = table[label].to_pylist()
        self._labels = [
            # -1 marks a row without label
            names[v] if names and isinstance(v, int) and 0 <= v < len(names) else str(v)
            for v in values
        ]
        self.classes = names or sorted(set(self._labels))
        self._persons = table[person].to_pylist() if person else None
        named = image in table.column_names  # a struct of bytes alone has no paths to read
        paths = pc.struct_field(table[image], [0]).to_pylist() if named else [None] * len(values)
        pairs = zip(self._rows, paths, strict=True)
        self._stems = [Path(p).stem if p else f"row{i:06d}" for i, p in pairs]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> FaceItem:
        person = None if self._persons is None else self._persons[index]
        identity = None if person is None else str(person)
        label, row = self._labels[index], self._rows[index]
        return FaceItem(self._stems[index], label, f"row {row}", self._images[row], identity)

    def listing(self) -> list[Listed]:
        rows = zip(self._labels, self._rows, self._stems, strict=True)
        return [Listed(label, f"row {row}", stem) for label, row, stem in rows]


class ItemSource:
    """A source set of items that are listed already."""

    def __init__(self, classes: Sequence[str], items: Sequence[FaceItem]) -> None:
        self.classes = list(classes)
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> FaceItem:
        return self._items[index]

    def listing(self) -> list[Listed]:
        return [Listed(item.class_name, item.origin, item.stem) for item in self._items]


def open_source(path: str | Path) -> FaceSource:
    """Open a source set.

    Args:
        path: a folder with one sub-folder per class; a parquet file, with the name of its label
            column behind a colon if it has an unusual one, "faces.parquet:ferplus"; or a published
            data set as its owners distribute it, "raf-db:FOLDER", or one split of it,
            "raf-db:train:FOLDER" (names: `expraug.datasets.list_datasets`).

    Raises:
        FileNotFoundError: nothing there, no class folders in it, or not the data set's layout.
        ValueError: a parquet file without image or label column, or a split that there is not.
    """
    named = _named(path)
    if named is not None:
        from expraug.datasets.readers import open_dataset

        name, split, root = named
        return open_dataset(name, root, split=split).source
    path = Path(path)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return ParquetSource(path)
    file, _, label = str(path).rpartition(":")
    if label and file.endswith(".parquet") and Path(file).is_file():
        return ParquetSource(file, label)
    raise FileNotFoundError(f"{path}: no such folder or parquet file{_unknown_name(path)}")


def _unknown_name(path: Path) -> str:
    """Return what to say of "kdeff:FOLDER": that no data set is called so."""
    from expraug.datasets.readers import list_datasets

    name, colon, _ = str(path).partition(":")
    if not colon or len(name) < 2 or os.sep in name:  # "C:" is a drive
        return ""
    return f", and no data set is called {name!r}; there are {', '.join(list_datasets())}"


def source_path(path: str | Path) -> Path:
    """Return the folder or file that `open_source` reads: FOLDER of "raf-db:train:FOLDER"."""
    named = _named(path)
    if named is not None:
        return named[2].expanduser()
    file, _, label = str(path).rpartition(":")
    return Path(file) if label and file.endswith(".parquet") else Path(path)


def _named(path: str | Path) -> tuple[str, str, Path] | None:
    """Return data set, split ("all" if none is named) and folder of "raf-db:train:FOLDER"."""
    from expraug.datasets.readers import list_datasets, plain_name

    name, colon, rest = str(path).partition(":")
    known = map(plain_name, list_datasets())
    if not colon or plain_name(name) not in known or Path(path).exists():
        return None
    split, colon, root = rest.partition(":")
    if colon and split in (*get_args(Split), "all"):
        return name, split, Path(root)
    return name, "all", Path(rest)


def iterate(source: FaceSource) -> Iterator[FaceItem]:
    """Yield every item of a source, in order."""
    return (source[i] for i in range(len(source)))


def _column(names: list[str], wanted: tuple[str, ...], path: Path) -> str:
    name = find_key(names, wanted)
    if name is None:
        raise ValueError(f"{path}: no column {' or '.join(wanted)}; it has {', '.join(names)}")
    return name


def _class_names(metadata: Mapping[bytes, bytes], label: str) -> list[str] | None:
    """Return the names of a `datasets.ClassLabel` column, which parquet keeps as metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return list(features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return None
