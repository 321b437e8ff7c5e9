"""Faces that someone rejected are not made again: by `expand`, and by the data set wrapper."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from torch.utils.data import Subset
from torchvision.datasets import FakeData, ImageFolder

from expraug import ExpressionAugmentedDataset, ExpressionAugmenter
from expraug.datasets.exclusions import ExclusionError, read_exclusions
from expraug.expand import DestinationError, expand

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import contents, write_faces

OPTIONS: dict[str, Any] = {"synthesizer": "pixel", "gate": None, "check_landmarks": False}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "manifest.pq").to_pylist()


def write_list(path: Path, rows: list[dict[str, Any]]) -> Path:
    faces = [
        {
            "source": row["source"],
            "synthesizer": row["fingerprint"],
            "target": row["target"],
            "intensity": row["intensity"],
            "variant": row["variant"],
        }
        for row in rows
    ]
    path.write_text("".join(json.dumps(face) + "\n" for face in faces) + "\n")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_faces(tmp_path / "set", 20, side=96)
    expand(tmp_path / "set", tmp_path / "out", intensity=[0.5, 1.0], **OPTIONS)
    return tmp_path / "out"


def test_expand_leaves_them_out(out: Path, tmp_path: Path) -> None:
    made = [row for row in rows_of(out) if row["file"]]
    rejected = [*made[:2], made[7]]  # all that is made of the first source, half of the fourth
    listed = write_list(tmp_path / "rejected.jsonl", rejected)
    options = OPTIONS | {"intensity": [0.5, 1.0], "exclude": listed}
    planned = expand(tmp_path / "set", tmp_path / "new", dry_run=True, **options)
    report = expand(tmp_path / "set", tmp_path / "new", **options)
    assert report.skipped == planned.skipped == {"excluded": 3}
    assert report.made == planned.planned.total() == len(made) - 3
    gone = contents(out).keys() - contents(report.folder).keys()
    assert gone == {row["file"] for row in rejected}
    told = [row for row in rows_of(report.folder) if row["reason"] == "excluded"]
    asked = ("source", "target", "intensity", "variant", "fingerprint")
    assert [[r[k] for k in asked] for r in told] == [[r[k] for k in asked] for r in rejected]
    with pytest.raises(DestinationError, match="other settings: exclude"):
        expand(tmp_path / "set", out, **options)
    options["overwrite"] = True
    expand(tmp_path / "set", out, **options)
    assert contents(out) == contents(report.folder)


def test_only_of_the_same_synthesizer(out: Path, tmp_path: Path) -> None:
    rows = [row | {"fingerprint": "pixel-of-old"} for row in rows_of(out)[:2]]
    listed = write_list(tmp_path / "rejected.jsonl", rows)
    with pytest.warns(UserWarning, match="2 of 2 faces were made by another synthesizer"):
        again = expand(tmp_path / "set", out, intensity=[0.5, 1.0], exclude=listed, **OPTIONS)
    assert not again.skipped  # the same set: nothing of it is left out


@pytest.mark.parametrize(
    "line",
    [
        "happy/0001.png",
        "[]",
        "{}",
        '{"source": 1, "synthesizer": "p", "target": "sad", "intensity": 1, "variant": 0}',
        '{"source": "a", "synthesizer": "p", "target": "glad", "intensity": 1, "variant": 0}',
        '{"source": "a", "synthesizer": "p", "target": "sad", "intensity": 1e999, "variant": 0}',
        '{"source": "a", "synthesizer": "p", "target": "sad", "intensity": 1, "variant": NaN}',
        "[" * 100_000,
    ],
)
def test_what_is_no_list(line: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"\n{line}\n")
    with pytest.raises(ExclusionError, match="list, line 2: not a face"):
        read_exclusions(tmp_path / "list", "p")


def test_a_list_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "list", tmp_path / "gone", tmp_path):
        with pytest.raises(ExclusionError, match="no list of rejected faces"):
            read_exclusions(path, "p")


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_the_data_set_wrapper_leaves_them_out(mode: Any, tmp_path: Path) -> None:
    base = ImageFolder(str(write_faces(tmp_path / "set", 20, side=96)))
    augmenter = ExpressionAugmenter("pixel", check_landmarks=False, per_image=1)
    given = Subset(base, range(6, 13))
    plain = ExpressionAugmentedDataset(given, augmenter, mode=mode, p=1, seed=0)
    fingerprint = augmenter.fingerprint.synthesizer

    def changed(data: Any, index: int) -> bool:
        if mode == "add":
            return index in data.sources[7:]
        return bool(data[index][1] != given[index][1])

    assert all(changed(plain, i) for i in range(7))
    file = Path(base.samples[8][0])  # the third that is given
    shown = file.parent.name
    source = f"{shown}/{file.name}"
    everything = [
        {"source": source, "fingerprint": fingerprint, "target": target, "intensity": i / 100}
        | {"variant": 0}
        for target in ("happy", "neutral")
        for i in range(1, 101)
    ]
    listed = write_list(tmp_path / "rejected.jsonl", everything)
    fewer = ExpressionAugmentedDataset(given, augmenter, mode=mode, p=1, seed=0, exclude=listed)
    assert [changed(fewer, i) for i in range(7)] == [i != 2 for i in range(7)]
    if mode == "add":
        assert len(fewer) == len(plain) - 1
    with pytest.raises(ExclusionError, match="FakeData does not tell the file of each sample"):
        ExpressionAugmentedDataset(
            FakeData(4), augmenter, ["happy", "neutral"], labels=[0] * 4, exclude=listed
        )
