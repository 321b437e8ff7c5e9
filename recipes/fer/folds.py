"""Sets cut into training, validation and test, and the settings that are trained on.

FER2013's validation cut is a tenth of the training images; images that look nearly the same are all
in it or all in training. Its test is the set's own validation file. LFW is cut by person.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import xxhash
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from expraug.expressions import Expression

SIDE = 48
_THUMBNAIL = 12
_ALIKE = 0.97
"""Correlation of two thumbnails from which images count as nearly the same."""
LFW, LONDON = "lfw", "london"
_NOT_IN_LFW = (Expression.FEAR, Expression.DISGUST, Expression.CONTEMPT)
"""LFW has a handful of them."""
_COMMON = (Expression.NEUTRAL, Expression.HAPPY)


@dataclass(frozen=True)
class FaceSet:
    """Images of a set, N of them.

    Args:
        pixels: (N, 48, 48) uint8.
        fer2013, ferplus: (N,) int64, the labels as values of `Expression`; -1 for none. Both are
            the same where a set has one label.
        duplicate: (N,) bool, whether a training image is nearly the same.
    """

    pixels: np.ndarray
    fer2013: np.ndarray
    ferplus: np.ndarray
    duplicate: np.ndarray

    @classmethod
    def read(cls, file: Path) -> FaceSet:
        """Read a parquet file with the columns image, expression, ferplus and duplicate_of."""
        table = pq.read_table(file, columns=["image", "expression", "ferplus", "duplicate_of"])
        images = [Image.open(io.BytesIO(item["bytes"])) for item in table["image"].to_pylist()]
        return cls(
            np.stack([np.asarray(image.convert("L")) for image in images]),
            _values(table["expression"].to_pylist()),
            _values(table["ferplus"].to_pylist()),
            table["duplicate_of"].is_valid().to_numpy(),
        )

    def labels(self, scheme: str) -> np.ndarray:
        """Return the labels of a scheme, values of `Expression`."""
        found: np.ndarray = self.fer2013 if scheme == "fer2013" else self.ferplus
        return found


def _values(names: list[str | None]) -> np.ndarray:
    return np.array([-1 if n is None else int(Expression.parse(n)) for n in names])


@dataclass(frozen=True)
class Setting:
    """What is trained on.

    Args:
        name: of the setting.
        scheme: "ferplus" (8 classes), "fer2013" (7 classes) or "lfw" (5 classes): whose labels.
        keep: share of the training faces of each class.
        per_rare: faces of each class but neutral and happy, at most; None for all.
        own_exemplars: whether only faces of the fold lend expressions.
        synthetics: the setting whose synthetics it trains on; "" for its own.
        steps: of training a scratch net.
    """

    name: str
    scheme: str
    keep: float = 1.0
    per_rare: int | None = None
    own_exemplars: bool = False
    synthetics: str = ""
    steps: int = 2400

    @property
    def classes(self) -> tuple[Expression, ...]:
        """The classes, in the order in which a net has them."""
        without = {"ferplus": (), "fer2013": (Expression.CONTEMPT,), "lfw": _NOT_IN_LFW}
        return tuple(e for e in Expression if e not in without[self.scheme])

    @property
    def pack(self) -> str:
        """The folder of its faces inside that of FER2013; "" for FER2013's own."""
        return LFW if self.scheme == LFW else ""

    @property
    def rare(self) -> tuple[Expression, ...]:
        """The classes of which synthetics are made."""
        if self.keep == 1 and self.per_rare is None and self.scheme != LFW:
            tail = (Expression.FEAR, Expression.DISGUST, Expression.CONTEMPT)
            return tuple(e for e in tail if e in self.classes)
        return tuple(e for e in self.classes if e not in _COMMON)


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("ferplus", "ferplus"),
        Setting("ferplus_20", "ferplus", per_rare=20, own_exemplars=True, steps=1600),
        Setting("fer2013_10pct", "fer2013", keep=0.1, own_exemplars=True, steps=1200),
        Setting("fer2013", "fer2013", synthetics="ferplus"),
        Setting("lfw", LFW, steps=1200),
    )
}


def near_duplicates(pixels: np.ndarray) -> np.ndarray:
    """Return the group of each image: images that look nearly the same are in one.

    Args:
        pixels: (N, 48, 48) uint8.

    Returns:
        (N,) int64, the lowest row of the group.
    """
    step = SIDE // _THUMBNAIL
    small = pixels.reshape(len(pixels), _THUMBNAIL, step, _THUMBNAIL, step).mean((2, 4))
    flat = small.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    rows, columns = [], []
    for first in range(0, len(flat), 2000):
        row, column = np.nonzero(flat[first : first + 2000] @ flat.T > _ALIKE)
        rows.append(row + first)
        columns.append(column)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), bool), (row, column)), (len(flat), len(flat)))
    _, group = connected_components(graph, directed=False)
    _, lowest = np.unique(group, return_index=True)
    found: np.ndarray = lowest[group]
    return found


def validation_mask(pixels: np.ndarray) -> np.ndarray:
    """Return which training images validate, (N,) bool: a tenth of the near-duplicates' groups."""
    group = near_duplicates(pixels)
    return np.array([_slot(int(g), "validation") < 0.1 for g in group])


def training_rows(setting: Setting, labels: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Return the rows of a setting's training faces, in order.

    Args:
        setting: what is kept.
        labels: (N,) of the training file, by the setting's scheme.
        validation: (N,) bool, of `validation_mask`.
    """
    kept = []
    for expression in setting.classes:
        rows = np.flatnonzero((labels == int(expression)) & ~validation)
        order = rows[np.argsort([_slot(int(row), setting.name) for row in rows])]
        count = round(setting.keep * len(order))
        if setting.per_rare is not None and expression not in _COMMON:
            count = setting.per_rare
        kept.append(order[:count])
    return np.sort(np.concatenate(kept))


def _slot(number: int, salt: str) -> float:
    """Return a number in [0, 1) that follows from the arguments alone."""
    return xxhash.xxh3_64_intdigest(f"{salt}|{number}".encode()) / 2**64
