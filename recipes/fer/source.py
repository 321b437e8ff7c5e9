"""Labelled sets as they lie on disk: what each image shows and who it is, and the image itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash

from expraug.datasets import open_source
from expraug.datasets.source import source_path
from expraug.expressions import Expression
from expraug.faces.image import as_array
from expraug.labels import IMAGE_KEYS, LABEL_KEYS, find_key, scheme_for_classes


@dataclass(frozen=True)
class LabelledImages:
    """A labelled set, N images of which are read one by one, as they are asked for.

    Args:
        name: of the source.
        expressions: N, what each image shows; None for one of a class that shows none of the eight.
        people: N names; "" where the set names nobody.
        read: returns the image of a row: (H, W) or (H, W, 3) uint8, as the source decodes it.
            Raises an `ExpraugError` where it cannot be decoded.
    """

    name: str
    expressions: Sequence[Expression | None]
    people: Sequence[str]
    read: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.expressions)


@lru_cache(maxsize=8)
def open_images(source: str, scheme: str | None = None) -> LabelledImages:
    """Open a labelled set.

    Args:
        source: what `open_source` opens (a parquet file, a folder with one sub-folder per class,
            "raf-db:train:FOLDER"); the folder above torchvision's `FER2013`, followed by ":train"
            or ":test"; or the name of a `datasets` data set, followed by ":split".
        scheme: what the classes mean, where their names do not say so: a published scheme's name,
            or "calm=neutral,grin=happy,bored=none".

    Raises:
        FileNotFoundError, ValueError: no such set, or one without image or label column.
        LabelError: a class that means no expression, or a scheme that contradicts the set.
    """
    path, _, split = source.rpartition(":")
    if source_path(source).exists():
        return _open_files(source, scheme)
    if Path(path).is_dir() and path:
        return _open_torchvision(path, split)
    if path:
        return _open_hub(path, split, scheme)
    raise FileNotFoundError(
        f"{source}: no such parquet file or folder; torchvision's FER2013 is FOLDER:train, a "
        f"data set of the `datasets` library is NAME:split"
    )


def state(source: str) -> str:
    """Return what changes when the files of a source do; of one without files, its name."""
    path = source_path(source)
    if not path.exists():
        return source
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    listed = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return f"{path.name}|{xxhash.xxh3_64_hexdigest(repr(listed).encode())}"


def _meaning(names: Sequence[str], scheme: str | None, owner: str) -> dict[str, Expression | None]:
    """Return what each class shows."""
    given: str | dict[str, str | None] | None = scheme
    if scheme and "=" in scheme:
        pairs = (pair.partition("=") for pair in scheme.split(","))
        given = {name.strip(): None if e.strip() == "none" else e.strip() for name, _, e in pairs}
    found = scheme_for_classes(names, given, owner)
    return {name: found.expressions[index] for index, name in found.classes.items()}


def _open_files(source: str, scheme: str | None) -> LabelledImages:
    items = open_source(source)
    means = _meaning(items.classes, scheme, source)
    listing = items.listing()
    # only parquet files name people, and their items cost a read: folders are asked for one
    named = bool(len(items)) and items[0].identity is not None
    people = [items[i].identity or "" if named else "" for i in range(len(items))]
    return LabelledImages(
        source,
        [means.get(listed.class_name) for listed in listing],
        people,
        lambda row: items[row].read(),
    )


def _open_torchvision(root: str, split: str) -> LabelledImages:
    from torchvision.datasets import FER2013

    data = FER2013(root, split=split)
    means = scheme_for_classes(None, "fer2013").expressions
    shown = [means[int(data[row][1])] for row in range(len(data))]
    return LabelledImages(
        f"{root}:{split}", shown, [""] * len(shown), lambda row: as_array(data[row][0])
    )


def _open_hub(name: str, split: str, scheme: str | None) -> LabelledImages:
    from datasets import load_dataset

    from expraug.datasets.source import PERSON_COLUMNS

    data = load_dataset(name, split=split)
    image, label, person = (
        find_key(data.features, wanted) for wanted in (IMAGE_KEYS, LABEL_KEYS, PERSON_COLUMNS)
    )
    if image is None or label is None:
        raise ValueError(f"{name}: no image or label column; it has {', '.join(data.features)}")
    values = data[label]
    names = getattr(data.features[label], "names", None) or sorted({str(v) for v in values})
    means = _meaning(names, scheme, name)
    shown = [means.get(names[v] if isinstance(v, int) else str(v)) for v in values]
    people = [str(p) for p in data[person]] if person else [""] * len(shown)
    return LabelledImages(f"{name}:{split}", shown, people, lambda row: as_array(data[row][image]))
