"""Which faces an evaluation takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from expraug.evaluate.face_set import collect
from expraug.faces import CropDetector


def folder(path: Path, count: int, level: int) -> Path:
    (path / "happy").mkdir(parents=True)
    for i in range(count):
        pixels = np.full((32, 32, 3), level + i, np.uint8)
        Image.fromarray(pixels).save(path / "happy" / f"{path.name}{i}.png")
    return path


def test_a_small_set_is_not_crowded_out(tmp_path: Path) -> None:
    large, small = folder(tmp_path / "large", 12, 50), folder(tmp_path / "small", 3, 150)
    found = collect([large, small], CropDetector(), split="all", limit=6)
    assert sorted(found.sets) == [0, 0, 0, 1, 1, 1]
    bright = found.faces.float().mean((1, 2, 3)) > 100
    assert bright.tolist() == [number == 1 for number in found.sets]
    everyone = collect([large, small], CropDetector(), split="all", limit=20)
    assert len(everyone) == 15
    alone = collect([large], CropDetector(), split="all", limit=6)
    assert alone.sets == [0] * 6
    assert set(found.people[:6]) - set(alone.people) <= {"small0", "small1", "small2"}
