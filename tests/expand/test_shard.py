"""However an expansion is split, it comes out the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from expraug.expand import expand
from expraug.expand.checks import parse_shard
from expraug.expand.layout import WORK
from expraug.expand.parts import Parts

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import QUICK, contents, write_faces

OPTIONS: dict[str, Any] = QUICK | {
    "targets": ["happy", "neutral"],
    "chunk_size": 4,
    "with_originals": True,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of 30 faces and its expansion."""
    root = tmp_path_factory.mktemp("whole")
    write_faces(root / "set", 30)
    expand(root / "set", root / "out", **OPTIONS)
    return root


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards(whole: Path, tmp_path: Path, order: tuple[int, ...]) -> None:
    reports = [expand(whole / "set", tmp_path, shard=f"{i}/3", **OPTIONS) for i in order]
    assert [report.complete for report in reports] == [False, False, True]
    assert reports[0].made < reports[1].made < reports[2].made == 30
    assert contents(tmp_path) == contents(whole / "out")


def test_a_shard_alone_is_no_set(whole: Path, tmp_path: Path) -> None:
    report = expand(whole / "set", tmp_path, shard=(1, 3), **OPTIONS)
    assert not report.manifest.exists()
    assert (tmp_path / "happy" / WORK).is_dir()
    assert not (tmp_path / "README.md").exists()


def test_more_shards_than_chunks(whole: Path, tmp_path: Path) -> None:
    for i in reversed(range(11)):
        report = expand(whole / "set", tmp_path, shard=(i, 11), **OPTIONS)
    assert report.complete
    assert contents(tmp_path) == contents(whole / "out")


def test_chunk_and_batch_sizes_do_not_show_in_the_faces(whole: Path, tmp_path: Path) -> None:
    expand(whole / "set", tmp_path, batch_size=3, **OPTIONS | {"chunk_size": 7})
    faces = {name: data for name, data in contents(tmp_path).items() if "__" in name}
    assert faces == {n: data for n, data in contents(whole / "out").items() if "__" in n}


def test_a_set_that_another_shard_completes_meanwhile(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Parts.tally

    def late(self: Parts) -> Any:
        monkeypatch.undo()
        expand(whole / "set", tmp_path, shard=(1, 2), **OPTIONS)
        raise FileNotFoundError("a part that was there a moment ago")

    monkeypatch.setattr(Parts, "tally", late)
    report = expand(whole / "set", tmp_path, shard=(0, 2), **OPTIONS)
    assert Parts.tally is tally
    assert (report.complete, report.made) == (True, 30)


@pytest.mark.parametrize("shard", ["1", "3/3", "-1/2", "0/0", "a/b", (2, 1)])
def test_what_is_no_shard(shard: Any) -> None:
    with pytest.raises(ValueError, match="i/n"):
        parse_shard(shard)
    assert parse_shard("0/4") == (0, 4)
    assert parse_shard(None) == (0, 1)
