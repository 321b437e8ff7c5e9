"""Hugging Face `datasets`: map, save, load, split by source, and read it in a torch loader."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from expraug import ExpressionAugmenter, ExpressionMap

datasets = pytest.importorskip("datasets")


def test_map_save_split_and_load(folder: Path, tmp_path: Path) -> None:
    faces = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    augmenter = ExpressionAugmenter("pixel")
    more = faces.map(ExpressionMap(augmenter, copies=1), batched=True, batch_size=4)
    assert len(more) == len(faces) + sum(more["synthetic"])
    assert sum(more["synthetic"]) >= 8
    more.save_to_disk(str(tmp_path / "saved"))
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))

    sources = sorted(set(loaded["source_digest"]))
    kept = set(sources[: len(sources) // 2])
    train = loaded.filter(lambda digest: digest in kept, input_columns="source_digest")
    test = loaded.filter(lambda digest: digest not in kept, input_columns="source_digest")
    assert len(train) + len(test) == len(loaded)
    assert not set(train["source_digest"]) & set(test["source_digest"])

    to_tensor = v2.Compose([v2.ToImage(), v2.Resize((32, 32))])
    train.set_transform(
        lambda rows: {"image": [to_tensor(i) for i in rows["image"]], "label": rows["label"]}
    )
    images = [batch["image"].shape[1:] for batch in DataLoader(train, batch_size=2)]
    assert set(images) == {(3, 32, 32)}
