"""The `Trainer` of transformers, over a `datasets` set whose faces change as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expraug import ExpressionAugmenter, ExpressionMap

transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")
pytest.importorskip("accelerate")


def test_trainer(folder: Path, tmp_path: Path) -> None:
    faces = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    names = faces.features["label"].names
    augmenter = ExpressionAugmenter("pixel", cache=tmp_path / "cache")
    online = ExpressionMap(augmenter, faces.features["label"], mode="replace", p=1.0, seed=None)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    seen: list[tuple[int, int]] = []

    def training(rows: dict[str, Any]) -> dict[str, Any]:
        changed = online(rows)
        seen.extend(zip(rows["label"], changed["label"], strict=True))
        pixels = processor([np.asarray(i.convert("RGB")) for i in changed["image"]])
        return {"pixel_values": pixels["pixel_values"], "labels": changed["label"]}

    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            image_size=32, patch_size=8, num_labels=2, id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            num_train_epochs=2,
            per_device_train_batch_size=4,
            remove_unused_columns=False,  # the image is needed until the faces have changed
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            use_cpu=True,
        ),
        train_dataset=faces.with_transform(training),
    )
    result = trainer.train()
    assert result.global_step == 6
    assert np.isfinite(result.training_loss)
    changed = sum(before != after for before, after in seen)
    assert len(seen) == 24
    assert changed >= 16  # p = 1, less what was refused
    assert changed == sum(augmenter.stats[k] for k in ("made", "cached"))
