"""Which index each reader gives a class of an expanded set, and what keeps the source set's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from expraug.expand.manifest import SCHEMA, Tally
from expraug.expand.options import ImageFormat, WriteKind


def planned_notes(classes: Sequence[str], source_classes: int, write: WriteKind) -> list[str]:
    """Return what is to be said of the class indices before a set is made.

    Args:
        classes: class names in index order, those of the source set first.
        source_classes: how many they are.
        write: form of the set.
    """
    added = list(classes[source_classes:])
    told = (
        f"the source set has no class for {', '.join(added)}: the expanded set has "
        f"{len(classes)} classes instead of {source_classes}. "
        if added
        else ""
    )
    if write != "folder":
        return [f"{told}The others keep their indices, what is new comes last."] if added else []
    by_name = sorted(classes)
    index = next((i for i, name in enumerate(by_name) if classes[i] != name), None)
    if index is None:
        return [f"{told}All others keep their indices."] if added else []
    has = f"{classes[index]!r}" if index < source_classes else "no class"
    return [
        f"{told}Readers of class folders (torchvision, timm, `imagefolder`) number them by name: "
        f"index {index} is {by_name[index]!r} here, and the source set has {has} there. What keeps "
        f"the source set's indices: create_dataset('', DEST, class_map='classes.txt') in timm, "
        f"load_dataset(DEST) in `datasets`, or the forms 'webdataset' and 'parquet'."
    ]


def found_notes(
    classes: Sequence[str], filled: Collection[str], write: WriteKind, image_format: ImageFormat
) -> list[str]:
    """Return what is to be said of a set that is there, where readers disagree on the indices.

    Args:
        classes: class names in index order.
        filled: those that have a face.
        write: form of the set.
        image_format: of its synthetic faces.
    """
    if write != "folder":
        return []
    notes = []
    empty = [name for name in classes if name not in filled]
    by_timm = sorted((name for name in classes if name in filled), key=_natural_key)
    if empty:
        notes.append(
            f"no face in {', '.join(empty)}: ImageFolder needs allow_empty=True; timm and "
            f"`imagefolder` leave empty classes out and number the others anew, but "
            f"create_dataset('', DEST, class_map='classes.txt') and load_dataset(DEST) do not."
        )
    elif by_timm != sorted(by_timm):
        notes.append(
            f"timm sorts folders in another way than torchvision ({', '.join(by_timm)}): give it "
            f"class_map='classes.txt'."
        )
    if image_format == "webp":
        notes.append("timm finds .webp files only with input_key='.webp;.png;.jpg;.jpeg'.")
    return notes


def _natural_key(name: str) -> list[int | str]:
    """Return what timm's readers sort class names by."""
    return [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", name.lower())]


def label_feature(classes: Sequence[str]) -> dict[str, Any]:
    """Return the dtype of a label as a card of the Hugging Face hub describes it."""
    return {"class_label": {"names": {str(i): name for i, name in enumerate(classes)}}}


def folder_features(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the features of class folders, which keep the indices in `datasets`."""
    return [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": label_feature(classes)},
    ]


ABOUT = [name for name in SCHEMA.names if name not in ("file", "status")]
"""Columns of the manifest that a sample of a tar shard carries along."""


def shard_features(classes: Sequence[str], formats: Collection[str]) -> list[dict[str, Any]]:
    """Return the features of tar shards: `datasets` looks at the first shard alone, which need not
    have all kinds of images."""
    words = {"double": "float64", "float": "float32"}
    kinds = {name: str(SCHEMA.field(name).type) for name in ABOUT}
    about = [{"name": name, "dtype": words.get(kind, kind)} for name, kind in kinds.items()]
    about += [{"name": "name", "dtype": "string"}, {"name": "synthetic", "dtype": "bool"}]
    return [
        *({"name": suffix, "dtype": "image"} for suffix in sorted(formats)),
        {"name": "cls", "dtype": label_feature(classes)},
        {"name": "json", "struct": about},
    ]


def shard_info(tally: Tally) -> bytes:
    """Return `_info.json`: the splits "train" (all faces), "synthetic" and "original"."""
    splits = {}
    for split, part in (("train", ""), ("synthetic", "synthetic-"), ("original", "original-")):
        found = Counter({k: n for k, n in tally.shards.items() if part in k.rpartition("/")[2]})
        if found:
            splits[split] = {
                "name": split,
                "num_samples": found.total(),
                "filenames": sorted(found),
                "shard_lengths": [found[name] for name in sorted(found)],
            }
    return json.dumps({"splits": splits}, indent=1).encode()
