"""An expansion that is interrupted goes on, and comes out the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from expraug.expand import DestinationError, expand
from expraug.expand.card import FACES_SHOWN
from expraug.expand.layout import WORK
from expraug.expand.parts import Parts
from expraug.pipeline import ExpressionAugmenter

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import QUICK, contents, write_faces

REPOSITORY = Path(__file__).parents[2]
OPTIONS: dict[str, Any] = QUICK | {"targets": ["happy", "neutral"], "chunk_size": 5}


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of 20 faces of which two chunks of four were done when Ctrl-C came."""
    write_faces(tmp_path / "set", 20)
    calls = []
    walk = ExpressionAugmenter.__call__

    def stop(self: Any, images: Any, requests: Any, **more: Any) -> Any:
        calls.append(len(images))
        if len(calls) == 4:  # rows of a chunk are settled one batch later
            raise KeyboardInterrupt
        return walk(self, images, requests, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ExpressionAugmenter, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            expand(tmp_path / "set", tmp_path / "out", **OPTIONS)
    return tmp_path


def test_an_interrupted_set_has_no_manifest(interrupted: Path) -> None:
    assert not (interrupted / "out" / "manifest.pq").exists()
    done = sorted(p.stem for p in (interrupted / "out" / "happy" / WORK / "parts").iterdir())
    assert done == ["000000", "000001"]


def test_resume(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = []
    walk = ExpressionAugmenter.__call__

    def count(self: Any, batch: Any, requests: Any, **more: Any) -> Any:
        images.extend(batch)
        return walk(self, batch, requests, **more)

    monkeypatch.setattr(ExpressionAugmenter, "__call__", count)
    report = expand(interrupted / "set", interrupted / "out", **OPTIONS)
    assert len(images) == 10 + FACES_SHOWN  # what was missing, and the contact sheet
    assert (report.made, report.complete) == (20, True)
    whole = expand(interrupted / "set", interrupted / "whole", **OPTIONS)
    assert contents(report.folder) == contents(whole.folder)
    assert report == type(report)(**(vars(whole) | {"folder": report.folder}))
    images.clear()
    again = expand(interrupted / "set", interrupted / "out", **OPTIONS)
    assert not images
    assert again.made == 20


def test_a_damaged_part_is_made_again(interrupted: Path) -> None:
    part = interrupted / "out" / "happy" / WORK / "parts" / "000000.parquet"
    whole = part.read_bytes()
    for damage in (b"not a part", whole[: len(whole) // 2], whole[:40] + b"\0" * 40 + whole[80:]):
        part.write_bytes(damage)
        Parts(interrupted / "out", part.parents[1], 4, {}).drop_damaged()
        assert not part.exists()
    report = expand(interrupted / "set", interrupted / "out", **OPTIONS)
    assert (report.made, report.complete) == (20, True)
    expand(interrupted / "set", interrupted / "whole", **OPTIONS)
    assert contents(interrupted / "out") == contents(interrupted / "whole")


def test_a_changed_source_is_noticed(interrupted: Path) -> None:
    path = sorted((interrupted / "set" / "happy").iterdir())[1]
    before = path.read_bytes()
    for complete in (False, True):
        path.write_bytes(before + b"\0")
        with pytest.raises(
            DestinationError, match=r"1 of the source files changed .* as happy/0001.jpg"
        ):
            expand(interrupted / "set", interrupted / "out", **OPTIONS)
        path.write_bytes(before)
        assert expand(interrupted / "set", interrupted / "out", **OPTIONS).complete, complete
    path.write_bytes(before + b"\0")
    expand(interrupted / "set", interrupted / "out", overwrite=True, **OPTIONS)
    expand(interrupted / "set", interrupted / "new", **OPTIONS)
    assert contents(interrupted / "out") == contents(interrupted / "new")


def test_overwrite_leaves_nothing_of_another_set(interrupted: Path) -> None:
    outside = interrupted / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (interrupted / "out" / "sad").symlink_to(outside)
    (interrupted / "out" / "notes.txt").write_text("mine too")
    other = OPTIONS | {"write": "webdataset", "overwrite": True}
    expand(interrupted / "set", interrupted / "out", **other)
    expand(interrupted / "set", interrupted / "new", **other)
    assert (outside / "mine.txt").read_text() == "mine"
    found = contents(interrupted / "out")
    assert found.pop("notes.txt") == b"mine too"
    assert found == contents(interrupted / "new")
    with pytest.raises(ValueError, match="other shards"):
        expand(interrupted / "set", interrupted / "out", shard="0/2", **other)
    (interrupted / "new" / "manifest.pq").write_bytes(b"mine")
    with pytest.raises(DestinationError, match="no manifest of an expansion"):
        expand(interrupted / "set", interrupted / "new", **other)


def test_other_settings_or_sources_are_refused(interrupted: Path) -> None:
    with pytest.raises(DestinationError, match="other settings: intensity"):
        expand(interrupted / "set", interrupted / "out", intensity=0.5, **OPTIONS)
    next((interrupted / "set" / "happy").iterdir()).unlink()
    with pytest.raises(DestinationError, match="other settings: source"):
        expand(interrupted / "set", interrupted / "out", **OPTIONS)


def test_kills_change_nothing(tmp_path: Path) -> None:
    """Of shards; those of a folder's workers: see the tests of processes and of Ray."""
    write_faces(tmp_path / "set", 18, side=192)
    command = [sys.executable, "-W", "ignore", "-m", "recipes.stress.expand"]
    command += ["--source", tmp_path / "set"]
    command += ["--faces", "18", "--kills", "4", "--chunk-size", "3", "--write", "webdataset"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == 4
    assert result["same after kills"] is True
