"""What holds for every data set, in every layout."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from dataset_trees import ONE_FILE, TREES
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from expraug import LabelScheme
from expraug.datasets import list_datasets, open_dataset, open_source, person_split
from expraug.datasets.readers import READERS, LayoutError
from expraug.errors import MissingDependencyError, UnreadableImageError


def shown(dataset):
    """(expression, identity, split) of every image."""
    expressions = (str(dataset.scheme.expression(t)) for t in dataset.targets)
    splits = (item.split for item in dataset.items)
    return Counter(zip(expressions, dataset.identities, splits, strict=True))


def test_gives_every_face_with_its_label_person_and_split(tree):
    dataset = open_dataset(tree.name, tree.root, split="all")
    assert shown(dataset) == Counter(tree.expected)
    assert dataset.class_to_idx[dataset.classes[2]] == 2
    assert len({item.origin for item in dataset.items}) == len(dataset)
    assert len({item.stem for item in dataset.items}) == len(dataset)
    for index in (0, len(dataset) - 1):
        image, label = dataset[index]
        assert isinstance(image, Image.Image)
        assert image.mode == dataset.mode
        assert label == dataset.targets[index]


def test_splits_partition_the_set_and_no_one_is_in_two(tree):
    whole = open_dataset(tree.name, tree.root, split="all")
    there = {s or (p and person_split(p)) for _, p, s in tree.expected}
    parts = {}
    for split in ("train", "validation", "test"):
        if split in there:
            parts[split] = open_dataset(tree.name, tree.root, split=split)
        else:
            with pytest.raises(ValueError, match=f"no split '{split}'"):
                open_dataset(tree.name, tree.root, split=split)
    if tree.name == "expw":
        assert not parts
        return
    origins = [item.origin for part in parts.values() for item in part.items]
    assert sorted(origins) == sorted(item.origin for item in whole.items)
    people = [set(part.identities) - {None} for part in parts.values()]
    assert sum(map(len, people)) == len(set.union(*people))
    for split, part in parts.items():
        assert all(i.split in (split, None) for i in part.items)
        assert all(person_split(p) == split for p in part.identities if p)
        assert len(part.clips) == sum(person_split(c.identity) == split for c in whole.clips)


def test_the_scheme_is_published_by_the_sets_name(tree):
    dataset = open_dataset(tree.name, tree.root, split="all")
    if tree.name != "affectnet":
        assert dataset.scheme == LabelScheme.named(tree.name)
    assert set(dataset.classes) >= {item.class_name for item in dataset.items}


def test_is_a_source_by_name_and_folder(tree):
    dataset = open_dataset(tree.name, tree.root, split="all")
    source = open_source(f"{tree.name}:{tree.root}")
    assert source.classes == dataset.classes
    assert [source[i] for i in range(len(source))] == dataset.items
    assert [item.stem for item in dataset.items] == [listed.stem for listed in source.listing()]


def test_becomes_a_hugging_face_dataset(tree, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    dataset = open_dataset(tree.name, tree.root, split="all")
    rows = dataset.to_hf()
    assert rows["label"][:] == dataset.targets
    assert rows.features["label"].names == dataset.classes
    assert ("identity" in rows.features) == (dataset.identities[0] is not None)
    if "identity" in rows.features:
        assert rows["identity"][:] == dataset.identities
    for index in (0, len(rows) - 1):
        image = rows[index]["image"].convert(dataset.mode)
        assert np.array_equal(np.array(image), np.array(dataset[index][0]))


def test_can_be_pickled_and_batched(tree):
    transform = v2.Compose([v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, True)])
    dataset = open_dataset(tree.name, tree.root, split="all", transform=transform)
    again = pickle.loads(pickle.dumps(dataset))
    images, labels = next(iter(DataLoader(again, batch_size=8)))
    assert images.shape == (8, 3 if dataset.mode == "RGB" else 1, 32, 32)
    assert labels.tolist() == dataset.targets[:8]


@pytest.mark.parametrize("name", list_datasets())
def test_another_layout_is_an_error_that_shows_both(name, tmp_path):
    with pytest.raises(LayoutError, match="no such folder"):
        open_dataset(name, tmp_path / "nowhere")
    with pytest.raises(LayoutError, match="an empty folder"):
        open_dataset(name, tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "aligned.zip").write_bytes(b"PK")
    with pytest.raises(LayoutError) as error:
        open_dataset(name, tmp_path)
    expected, found = str(error.value).split("found:")
    assert all(line in expected for line in READERS[name].layout.split("\n"))
    assert "pictures/  aligned.zip" in found
    assert error.value.reason == "layout"
    (tmp_path / "file").write_bytes(b"\x89PNG\0")
    with pytest.raises(LayoutError):
        open_dataset(name, tmp_path / "file")


FILES = [layout for layout in TREES if layout not in (*ONE_FILE, "expw")]


@pytest.mark.parametrize("layout", FILES)
def test_a_damaged_image_names_itself_and_the_others_are_read(own, layout):
    tree = own(layout)
    dataset = open_dataset(tree.name, tree.root, split="all")
    victim = dataset.items[1]
    victim.file.write_bytes(b"\xff\xd8\xff not a picture")
    with pytest.raises(UnreadableImageError, match="not an image") as error:
        dataset[1]
    assert victim.origin in str(error.value)
    assert dataset[2][0].size
    victim.file.unlink()
    with pytest.raises(UnreadableImageError):
        dataset[1]


def test_names_are_taken_in_any_spelling(tree_of):
    tree = tree_of("rafdb")
    for name in ("RAF-DB", "rafdb", "raf_db"):
        assert len(open_dataset(name, tree.root)) == 7
    with pytest.raises(ValueError, match="there are fer2013, fer\\+, raf-db"):
        open_dataset("imagenet", tree.root)
    with pytest.raises(ValueError, match='missing must be "error" or "skip"'):
        open_dataset("rafdb", tree.root, missing="maybe")


def test_a_source_may_name_one_split(tree_of):
    tree = tree_of("rafdb")
    assert len(open_source(f"rafdb:train:{tree.root}")) == 7
    assert len(open_source(f"rafdb:all:{tree.root}")) == 14
    with pytest.raises(ValueError, match=r"no split 'validation'; it has 'train' \(7 images\)"):
        open_source(f"RAF-DB:validation:{tree.root}")
    with pytest.raises(FileNotFoundError, match="no such folder or parquet file"):
        open_source("imagenet:/nowhere")


def test_to_hf_without_datasets_says_what_to_install(tree_of, monkeypatch):
    tree = tree_of("rafdb")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'expraug\[datasets\]'"):
        open_dataset("raf-db", tree.root).to_hf()


def test_to_hf_is_the_same_table_in_every_process(tree_of, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    tree = tree_of("expw")
    code = (
        "from expraug.datasets import open_dataset\n"
        f"print(open_dataset('expw', {str(tree.root)!r}).to_hf()._fingerprint)"
    )
    run = {"env": {**os.environ, "HF_HOME": str(tmp_path)}, "capture_output": True, "check": True}
    there = subprocess.run([sys.executable, "-c", code], text=True, **run).stdout.strip()
    assert there == open_dataset("expw", tree.root).to_hf()._fingerprint
