"""Links in a source set are not followed out of their class, nor round in circles."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from expraug.datasets import FolderSource
from expraug.expand import expand

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import write_faces


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return write_faces(tmp_path / "set", 20)


def origins(source: FolderSource) -> list[str]:
    return [listed.origin for listed in source.listing()]


def test_order_is_that_of_torchvision(faces: Path) -> None:
    for name in ("b", "a", "b/deep", "b.x"):
        (faces / "happy" / name).mkdir()
        (faces / "happy" / name / "Z.JPG").touch()
        (faces / "happy" / name / "z.txt").touch()
    folder = ImageFolder(str(faces))
    source = FolderSource(faces)
    assert source.classes == folder.classes
    assert [str(faces / o) for o in origins(source)] == [path for path, _ in folder.samples]
    names = [source.classes[label] for label in folder.targets]
    assert [listed.class_name for listed in source.listing()] == names


def test_loops(faces: Path) -> None:
    before = origins(FolderSource(faces))
    (faces / "neutral" / "loop").symlink_to("..")
    (faces / "happy" / "loop").symlink_to("..")  # two of them never end
    (faces / "happy" / "again").symlink_to(".")
    with pytest.warns(UserWarning, match=r"3 link\(s\) to folders are not followed, as .*happy"):
        source = FolderSource(faces)
    assert origins(source) == before
    assert Counter(item.class_name for item in source.listing()) == {"happy": 10, "neutral": 10}


def test_links_among_the_classes(faces: Path, tmp_path: Path) -> None:
    for name, target in (("all", "."), ("above", ".."), ("joy", "happy")):
        (faces / name).symlink_to(target)
    elsewhere = write_faces(tmp_path / "elsewhere", 20)
    (faces / "sad").symlink_to(elsewhere / "neutral")
    source = FolderSource(faces)
    assert source.classes == ["happy", "neutral", "sad"]
    assert len(source) == 30


def test_links_to_files_are_files(faces: Path, tmp_path: Path) -> None:
    there = next((faces / "happy").iterdir()).rename(tmp_path / "moved.jpg")
    (faces / "happy" / "link.jpg").symlink_to(there)
    (faces / "happy" / "broken.jpg").symlink_to(tmp_path / "nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = expand(faces, tmp_path / "out", synthesizer="pixel", gate=None)
    assert (report.made, report.skipped) == (20, {"unreadable_image": 1})


def test_what_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no class folders"):
        FolderSource(tmp_path)
