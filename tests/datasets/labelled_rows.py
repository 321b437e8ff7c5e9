"""Rows of a `datasets.Dataset` with faces, and what to compare of them."""

import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

NAMES = ["happy", "neutral"]


def labelled_rows(faces: Path) -> datasets.Dataset:
    """Return three smiling and three neutral people, 64 px, as JPEG bytes."""
    images, labels, people = [], [], []
    for label, name in enumerate(NAMES):
        for path in sorted((faces / name).iterdir())[:3]:
            data = io.BytesIO()
            Image.open(path).resize((64, 64)).save(data, "JPEG", quality=90)
            images.append({"bytes": data.getvalue(), "path": None})
            labels.append(label)
            people.append(path.stem)
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=NAMES),
        identity=datasets.Value("string"),
    )
    columns = {"image": images, "label": labels, "identity": people}
    return datasets.Dataset.from_dict(columns, features=features)


def described(dataset):
    """Return for each row what must not depend on how it was made."""
    return [
        (np.asarray(row["image"]).tobytes(), row["label"], row["identity"], row["source_digest"])
        for row in dataset
    ]


class NotTheFirst:
    """A gate that rejects the first person, by brightness."""

    fingerprint = "not-the-first"

    def score(self, faces, synthetic, target):
        return {"identity": faces.mean(dim=(1, 2, 3))}

    def rejection(self, scores):
        return "" if scores["identity"] > 0.645 else "identity_lost"
