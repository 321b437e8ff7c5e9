"""webdataset reads what `expand --write webdataset` wrote, in a loader with a worker."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expraug.expand import expand

wds = pytest.importorskip("webdataset")


def decoded(sample: dict[str, Any]) -> tuple[np.ndarray, int, bool]:
    image = next(sample[kind] for kind in ("png", "jpg", "jpeg") if kind in sample)
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    return pixels, int(sample["cls"]), b'"synthetic": true' in sample["json"]


def test_shards(folder: Path, tmp_path: Path) -> None:
    report = expand(folder, tmp_path / "shards", synthesizer="pixel", gate=None,
                    write="webdataset", with_originals=True, chunk_size=4)  # fmt: skip
    shards = sorted(str(path) for path in report.folder.rglob("*.tar"))
    assert len(shards) > 2
    data = wds.WebDataset(shards, shardshuffle=False, empty_check=False).map(decoded)
    samples = list(wds.WebLoader(data, batch_size=None, num_workers=1))
    labels = Counter(label for _, label, _ in samples)
    classes = ["happy", "neutral"]
    expected = {i: report.synthetic[c] + report.originals[c] for i, c in enumerate(classes)}
    assert labels == expected
    assert sum(synthetic for *_, synthetic in samples) == report.made
    assert {pixels.shape for pixels, *_ in samples} == {(128, 128, 3)}
