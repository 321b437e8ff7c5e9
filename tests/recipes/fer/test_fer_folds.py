"""FER2013 cut into folds, packed and read again."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expraug.expressions import Expression
from recipes.fer.folds import (
    SETTINGS,
    Setting,
    near_duplicates,
    training_rows,
    validation_mask,
)
from recipes.fer.pack_tables import Pack, load_synthetics, pack, pack_synthetics
from recipes.real_faces import FER2013, FILES, extract


def test_images_that_look_alike_are_one_group_and_validate_together(small_faces):
    brighter = np.clip(small_faces[:3].astype(int) + 20, 0, 255).astype(np.uint8)
    group = near_duplicates(np.concatenate([small_faces, brighter]))
    assert group[20:].tolist() == group[:3].tolist() == [0, 1, 2]
    assert len(np.unique(group[:10])) == 10  # other people
    twice = np.concatenate([small_faces, small_faces[::-1]])
    mask = validation_mask(twice)
    assert np.array_equal(mask[:20], mask[20:][::-1])
    assert 0 < mask.sum() < 20


def test_a_setting_takes_its_share_of_each_class_and_nothing_that_validates():
    labels = np.repeat(np.arange(8), 100)
    validation = np.arange(800) % 10 == 0
    few = Setting("few", "ferplus", per_rare=20)
    counts = np.bincount(labels[training_rows(few, labels, validation)])
    assert counts.tolist() == [90, 90, 20, 20, 20, 20, 20, 20]
    tenth = training_rows(Setting("tenth", "fer2013", keep=0.1), labels, validation)
    assert np.bincount(labels[tenth]).tolist() == [9] * 7  # contempt is no class of FER2013
    assert not validation[tenth].any()
    assert SETTINGS["ferplus"].rare == (Expression.FEAR, Expression.DISGUST, Expression.CONTEMPT)
    assert SETTINGS["fer2013"].rare == (Expression.FEAR, Expression.DISGUST)


def test_a_pack_gives_labels_and_nearly_the_pixels_back(packed, tmp_path):
    again = Pack.load(packed.folder)
    for name in ("train", "test"):
        before, after = getattr(packed.pack, name), getattr(again, name)
        assert np.array_equal(before.ferplus, after.ferplus)
        assert np.array_equal(before.duplicate, after.duplicate)
        error = np.abs(before.pixels.astype(int) - after.pixels).mean()
        assert error < 4, "neither another face nor another place"
    assert np.array_equal(packed.pack.validation, again.validation)
    file = tmp_path / "ferplus-transfer.npz"
    np.savez(file, done=3, **vars(packed.made))
    (tmp_path / "out").mkdir()
    pack_synthetics(file, tmp_path / "out")
    found = load_synthetics(tmp_path / "out", "ferplus-transfer")
    assert found is not None
    assert np.array_equal(found.source, packed.made.source)
    assert np.abs(found.pixels.astype(int) - packed.made.pixels).mean() < 4
    assert load_synthetics(tmp_path / "out", "ferplus-pixel") is None
    unpacked = load_synthetics(tmp_path, "ferplus-transfer")
    assert unpacked is not None
    assert np.array_equal(unpacked.pixels, packed.made.pixels)


def test_the_sets_are_read_and_packed(small_faces, tmp_path):
    names = ["neutral"] * 10 + ["happy"] * 10
    rows = []
    for number, (image, name) in enumerate(zip(small_faces, names, strict=True)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        count = [0] * 10
        count[0 if name == "neutral" else 1] = 9
        rows.append(
            {
                "image": {"bytes": file.getvalue(), "path": f"{number}.png"},
                "expression": name,
                "ferplus": name if number else None,
                "votes": count,
                "duplicate_of": "a twin" if number == 1 else None,
            }
        )
    data = tmp_path / "data"
    (data / "fer2013").mkdir(parents=True)
    for path in FILES[FER2013]:
        pq.write_table(pa.Table.from_pylist(rows), data / path)
    faces = extract(FER2013, data / FILES[FER2013][0], tmp_path / "real_faces")
    pack(data, tmp_path / "real_faces", tmp_path / "pack")
    found = Pack.load(tmp_path / "pack")
    assert found.train.ferplus.tolist() == [-1] + [0] * 9 + [1] * 10
    assert np.flatnonzero(found.test.duplicate).tolist() == [1]
    assert np.array_equal(np.flatnonzero(found.clear), np.sort(faces.row))
    assert found.least[int(Expression.HAPPY)] > found.least[int(Expression.DISGUST)] > 0


@pytest.fixture
def small_faces(faces) -> np.ndarray:
    paths = [p for name in ("neutral", "happy") for p in sorted((faces / name).iterdir())]
    return np.stack([np.array(Image.open(p).convert("L").resize((48, 48))) for p in paths])
