"""FER2013 as people unpack it: an ImageFolder, whose classes are counted alphabetically."""

import io
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

NAMES = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
"""In ImageFolder's order; FER2013 itself ends with sad, surprise, neutral."""

FIRST_THAT_DIFFERS = r"at index 4 the scheme has 'sad' \(sad\) and .* 'neutral' \(neutral\)"


def fer_folder(parquet: Path, root: Path, per_class: int = 2) -> Path:
    """Write some real images of each class as files, and return the folder."""
    counts = dict.fromkeys(NAMES, 0)
    rows = next(pq.ParquetFile(parquet).iter_batches(2000, columns=["image", "expression"]))
    for row in rows.to_pylist():
        name = row["expression"]
        if counts[name] < per_class:
            (root / name).mkdir(parents=True, exist_ok=True)
            image = Image.open(io.BytesIO(row["image"]["bytes"]))
            image.save(root / name / f"{counts[name]}.png")
            counts[name] += 1
    assert set(counts.values()) == {per_class}
    return root
