"""Data sets of faces for Hugging Face `datasets`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expraug.datasets.source import FaceItem
from expraug.errors import MissingDependencyError, UnreadableImageError

if TYPE_CHECKING:
    import datasets

    from expraug.datasets.readers.face_dataset import FaceDataset


def to_hf(dataset: FaceDataset) -> datasets.Dataset:
    """Return a data set of faces as a `datasets.Dataset`.

    Columns: `image` (an `Image`), `label` (a `ClassLabel` with the set's own class names), `origin`
    (where in the set it came from), and, in sets that have them, `identity` (a string) and `votes`
    (the share of annotators for each class). Transforms are not applied.

    An image that is a file stays one and is decoded when it is asked for; the table holds its path
    until it is saved or pushed. A face that a box cuts out of a photograph is cut out now and kept
    as PNG; where that photograph is damaged the row is left out, with a warning that counts them.
    `datasets` caches the table under the paths and labels in it.

    Raises:
        MissingDependencyError: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "to_hf needs the datasets package: pip install 'expraug[datasets]'"
        ) from error

    features: dict[str, Any] = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=dataset.classes),
        "origin": datasets.Value("string"),
    }
    if any(item.identity is not None for item in dataset.items):
        features["identity"] = datasets.Value("string")
    if any(item.votes is not None for item in dataset.items):
        features["votes"] = datasets.Sequence(datasets.Value("float32"), len(dataset.classes))
    return datasets.Dataset.from_generator(
        _rows,
        features=datasets.Features(features),
        gen_kwargs={
            "items": tuple(dataset.items),
            "class_to_idx": dataset.class_to_idx,
            "columns": tuple(features),
        },
        split=datasets.NamedSplit("train" if dataset.split == "all" else dataset.split),
    )


def _rows(
    items: tuple[FaceItem, ...], class_to_idx: dict[str, int], columns: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    damaged = 0
    for item in items:
        try:
            image = _image(item)
        except UnreadableImageError:
            damaged += 1
            continue
        row = {
            "image": image,
            "label": class_to_idx[item.class_name],
            "origin": item.origin,
            "identity": item.identity,
            "votes": item.votes,
        }
        yield {column: row[column] for column in columns}
    if damaged:
        warnings.warn(
            f"{damaged} of {len(items)} images are damaged and left out", UserWarning, stacklevel=2
        )


def _image(item: FaceItem) -> dict[str, Any]:
    content = item.content()
    if isinstance(content, Path):
        return {"path": str(content.absolute()), "bytes": None}
    return {"path": None, "bytes": content}
