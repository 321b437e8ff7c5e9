"""The recipe that makes clips, on the sample faces."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expraug.datasets import person_split


def test_clips_of_neutral_faces(run_recipe, faces, tmp_path) -> None:
    people = tmp_path / "people.parquet"
    rows = sorted((faces / "neutral").iterdir())[:2]
    table = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in rows],
        "expression": ["neutral"] * 2,
        "identity": [path.stem for path in rows],
    }
    pq.write_table(pa.table(table), people)
    made = tmp_path / "made.parquet"
    out = run_recipe(
        "pairs.make_clips", people, "--out", made, "--identity", "dlib",
        "--split", person_split(rows[0].stem),
    )  # fmt: skip
    assert "neutral faces" in out
    clips = pq.read_table(made).to_pylist()
    assert {"happy", "surprise"} <= {row["expression"] for row in clips}
    for row in clips:
        assert row["variant"] == 0
        assert row["score_identity"] > 0.9
        (tmp_path / "strip.png").write_bytes(row["image"]["bytes"])
        with Image.open(tmp_path / "strip.png") as image:
            assert (image.size, image.mode) == ((9 * 64, 64), "L")
            frames = np.asarray(image, dtype=float).reshape(64, 9, 64).transpose(1, 0, 2)
        # frames go from the first to the last, step by step
        away = np.abs(frames - frames[0]).mean((1, 2))
        assert away[-1] > 1
        assert away[1] < away[4] < away[8]


@pytest.fixture
def ckplus(faces: Path, tmp_path: Path) -> Path:
    """Two people's sequences of five frames from neutral to a smile, as CK+ has them."""
    root = tmp_path / "ck+"
    paths = sorted((faces / "neutral").iterdir())[:2]
    for person, path in zip(("S005", "S010"), paths, strict=True):
        images = root / "cohn-kanade-images" / person / "001"
        emotions = root / "Emotion" / person / "001"
        images.mkdir(parents=True)
        emotions.mkdir(parents=True)
        neutral, happy = (Image.open(p).convert("L") for p in (path, faces / "happy" / path.name))
        for n in range(5):
            Image.blend(neutral, happy, n / 4).save(images / f"{person}_001_{n + 1:08d}.png")
        (emotions / f"{person}_001_00000005_emotion.txt").write_text("5.0000000e+00")
    return root


def test_real_sequences_become_rows_of_the_same_table(run_recipe, ckplus, tmp_path) -> None:
    damaged = ckplus / "cohn-kanade-images" / "S010" / "001" / "S010_001_00000003.png"
    damaged.write_bytes(b"no image")
    made = tmp_path / "made.parquet"
    out = run_recipe(
        "pairs.make_clips", "--sequences", f"ck+:{ckplus}", "--split", "all", "--out", made
    )
    assert "happy: 1 kept, 1 unreadable" in out
    (row,) = pq.read_table(made).to_pylist()
    assert (row["expression"], row["identity"]) == ("happy", "CK+ S005")
    assert row["variant"] is row["score_identity"] is None
    (tmp_path / "strip.png").write_bytes(row["image"]["bytes"])
    with Image.open(tmp_path / "strip.png") as image:
        frames = np.asarray(image, dtype=float).reshape(64, 9, 64).transpose(1, 0, 2)
    away = np.abs(frames - frames[0]).mean((1, 2))
    assert away[2] < away[5] < away[8]
