"""One class of options: what decides on the bytes, and what does not."""

from __future__ import annotations

import shutil
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from expraug.expand import DestinationError, ExpandOptions, expand
from expraug.gate import IdentityGate

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import contents, write_faces
from test_expand import FakeEncoder

BASE = ExpandOptions(synthesizer="pixel", gate=None, chunk_size=4)
OTHER: dict[str, Any] = {
    "targets": ["happy"],
    "intensity": [0.5],
    "variants": None,  # pixel has one alone
    "balance": True,
    "per_class": 3,
    "max_per_source": 1,
    "seed": 1,
    "scheme": "happy=happy,neutral=none",
    "shows": None,  # of images without classes: tests/test_cli_config.py
    "exclude": None,  # tests/expand/test_exclude.py
    "alignment": "detect",
    "gate": IdentityGate(FakeEncoder(knows=True)),
    "check_landmarks": False,
    "write": "parquet",
    "image_format": "webp",
    "with_originals": True,
    "max_pixels": 1_000_000,
    "max_bytes": 1_000_000,
    "chunk_size": 5,
}
SAME: dict[str, Any] = {
    "device": "cpu",
    "batch_size": 3,
    "num_workers": 1,
    "license": None,  # shows in the card alone
    "overwrite": True,
    "engine": "local",
    "progress": True,
    "frames": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("options")
    write_faces(root / "set", 16)
    expand(root / "set", root / "out", BASE)
    return root


def test_every_option_is_in_a_list() -> None:
    deciding = {f.name for f in fields(ExpandOptions) if f.metadata["decides"]}
    assert deciding == {*OTHER, "synthesizer"}
    assert all(f.metadata["text"].endswith(".") for f in fields(ExpandOptions))


@pytest.mark.parametrize("name", [name for name, value in OTHER.items() if value is not None])
def test_what_decides_is_another_set(root: Path, name: str) -> None:
    with pytest.raises(DestinationError, match="holds an expansion made with other settings: "):
        expand(root / "set", root / "out", BASE, **{name: OTHER[name]})


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_decide_is_the_same_set(root: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(root / "out", tmp_path / "out")
    expand(root / "set", tmp_path / "out", BASE, **{name: SAME[name]})
    assert contents(tmp_path / "out") == contents(root / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"write": "zip"}, "write must be one of folder, webdataset, parquet, not 'zip'"),
        ({"alignment": "faces"}, "alignment must be one of crop, detect"),
        ({"frames": 101}, "frames must be at least 1 and at most 100, not 101"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"frames": 3, "intensity": 1.0}, "not both"),
    ],
)
def test_values_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExpandOptions(**changes)


def test_frames_are_intensities() -> None:
    assert ExpandOptions(frames=3).filled_in().intensity == [0.33, 0.67, 1.0]
    assert ExpandOptions().filled_in().intensity == 1.0


def test_images_that_lose_their_face(tmp_path: Path) -> None:
    source = write_faces(tmp_path / "set", 6, side=128)
    for i in range(2):
        Image.new("RGB", (64, 64)).save(source / "happy" / f"black{i}.png")
    options: dict[str, Any] = {"targets": ["neutral"], "alignment": "detect"}
    with pytest.warns(UserWarning, match="no class for neutral"):
        report = expand(source, tmp_path / "out", BASE, **options)
    assert report.skipped["no_face"] == 2
    (note,) = (note for note in report.notes if "no face was found" in note)
    assert "use alignment='crop' (--alignment crop)" in note
    assert note in (report.folder / "README.md").read_text()
