"""A few faces as the tables take them; their labels are dealt out, for want of rare faces."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from expraug.expressions import Expression
from recipes.fer.folds import FaceSet
from recipes.fer.pack_tables import Pack
from recipes.fer.synthetics import Synthetics


class Packed(NamedTuple):
    folder: Path
    pack: Pack
    made: Synthetics


def write_pack(faces: Path, folder: Path) -> Packed:
    """Write 40 training faces, 8 of which validate, 16 test faces, and 12 for synthetic."""
    paths = [p for name in ("neutral", "happy") for p in sorted((faces / name).iterdir())]
    images = [Image.open(p).convert("L") for p in paths]
    seen = [i.resize((48, 48)) for i in images] + [i.crop((32, 32, 224, 224)) for i in images]
    pixels = np.stack([np.array(i.resize((48, 48))) for i in seen])
    labels = np.arange(40) % 8
    fer2013 = np.where(labels == int(Expression.CONTEMPT), int(Expression.ANGRY), labels)
    train = FaceSet(pixels, fer2013, labels, np.zeros(40, bool))
    test = FaceSet(pixels[:16], fer2013[:16], labels[:16], np.arange(16) == 3)
    pack = Pack(train, test, np.arange(40) < 8, np.ones(40, bool), np.full(8, 0.1))
    pack.save(folder)
    target = np.array([4, 5, 7] * 4)
    made = Synthetics(
        pixels[8:20, ::-1].copy(),
        target,
        np.arange(8, 20),
        np.arange(12) >= 6,
        np.linspace(0, 1, 12, dtype=np.float32),
        np.full(12, 0.8, np.float32),
    )
    np.savez(folder / "ferplus-transfer.npz", done=12, **vars(made))
    return Packed(folder, pack, made)
