"""A cache folder that somebody else has filled."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cache"))
from cached_faces import fill, holds, key_of

from expraug.cache import CacheError, SynthesisCache


@pytest.fixture
def cache(tmp_path: Path) -> SynthesisCache:
    cache = SynthesisCache(tmp_path / "cache", "directory")
    fill(cache, range(6))
    return cache


def value_file(cache: SynthesisCache, number: int) -> Path:
    name = key_of(number).hex()
    return next((cache.path / "entries").rglob(name))


def in_time(work: Callable[[], Any]) -> Any:
    """Return what is computed, unless it waits for something that never comes."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(20)
    assert found, "it hangs"
    return found[0]


def every_walk(cache: SynthesisCache) -> None:
    in_time(lambda: cache.verify(repair=True))
    in_time(cache.info)
    in_time(lambda: cache.prune(fingerprint="pixel"))
    in_time(lambda: cache.prune(max_bytes=0))


@pytest.mark.parametrize("level", ["value", "image", "synthesizer"])
def test_links_out_of_the_folder(cache: SynthesisCache, tmp_path: Path, level: str) -> None:
    outside = SynthesisCache(tmp_path / "outside", "directory")
    fill(outside, range(6))
    damaged = value_file(outside, 0)
    damaged.write_bytes(b"not a value")
    place = value_file(cache, 0)
    there = {"value": damaged, "image": damaged.parent, "synthesizer": damaged.parents[1]}[level]
    here = {"value": place, "image": place.parent, "synthesizer": place.parents[1]}[level]
    here.rename(tmp_path / "away")
    here.symlink_to(there)
    before = {p: p.read_bytes() for p in (tmp_path / "outside").rglob("*") if p.is_file()}
    every_walk(cache)
    cache.put(key_of(0), outside.get(key_of(1)))  # where a link leads, nothing is written
    after = {p: p.read_bytes() for p in (tmp_path / "outside").rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.parametrize("folder", ["entries", "fingerprints", "sizes"])
def test_a_folder_of_the_store_that_is_a_link(
    cache: SynthesisCache, tmp_path: Path, folder: str
) -> None:
    cache.register("pixel")
    (cache.path / folder).rename(tmp_path / "outside")
    (cache.path / folder).symlink_to(tmp_path / "outside")
    with pytest.raises(CacheError, match=f"{folder} is a link"):
        SynthesisCache(cache.path, "directory").info()


def pipe(place: Path) -> None:
    os.mkfifo(place)


def link_to_itself(place: Path) -> None:
    place.symlink_to(place)


def folder(place: Path) -> None:
    place.mkdir()
    (place / "inside").write_text("mine")


def endless(place: Path) -> None:
    place.symlink_to("/dev/zero")


@pytest.mark.parametrize("thing", [pipe, link_to_itself, folder, endless])
def test_other_things_in_place_of_a_value(
    cache: SynthesisCache, thing: Callable[[Path], None]
) -> None:
    place = value_file(cache, 3)
    place.unlink()
    thing(place)
    assert in_time(lambda: [holds(cache, n) for n in range(6)]) == [n != 3 for n in range(6)]
    report = in_time(lambda: cache.verify(repair=True))
    assert (report.good, report.damaged) == (5, 0)
    assert os.path.lexists(place)  # not the store's: it is left alone
    if thing is not folder:
        fill(cache, [3])
        assert holds(cache, 3)
    every_walk(cache)
    assert thing is not folder or (place / "inside").read_text() == "mine"


@pytest.mark.parametrize("thing", [pipe, link_to_itself, folder, endless])
def test_other_things_in_place_of_the_marker(
    cache: SynthesisCache, thing: Callable[[Path], None]
) -> None:
    marker = cache.path / "expraug-cache.json"
    marker.unlink()
    thing(marker)

    def look() -> str:
        try:
            return str(SynthesisCache(cache.path, "directory").info().entries)
        except CacheError as error:
            return str(error)

    told = in_time(look)
    assert told == "6" or str(cache.path) in told


def test_flipped_bits_of_an_lmdb_file_raise_nothing_raw(tmp_path: Path) -> None:
    """A process that meets a damaged page may end (its limits are documented); none of what Python
    sees is another error than ours, and no face is read that was not stored."""
    code = """
import sys, warnings, random
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cached_faces import fill, holds, key_of
from expraug.cache import CacheError, SynthesisCache
warnings.simplefilter("ignore")
whole = Path(sys.argv[2]).read_bytes()
draw = random.Random(int(sys.argv[4]))
folder = Path(sys.argv[3])
for trial in range(25):
    where = folder / str(trial)
    where.mkdir()
    damaged = bytearray(whole)
    for _ in range(8):
        damaged[draw.randrange(8192, len(whole))] ^= 1 << draw.randrange(8)
    (where / "data.mdb").write_bytes(damaged)
    try:
        cache = SynthesisCache(where, "lmdb")
        for n in range(40):
            entry = cache.get(key_of(n))
            assert entry is None or holds(cache, n), "a wrong face"
        fill(cache, range(100, 110))
        cache.verify(repair=True)
        cache.info()
        cache.prune(max_bytes=0)
        cache.close()
    except CacheError:
        pass
    print("checked", flush=True)
"""
    cache = SynthesisCache(tmp_path / "whole", "lmdb")
    fill(cache, range(40))
    cache.close()
    trials = 0
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        command = [sys.executable, "-c", code, str(Path(__file__).parents[1] / "cache")]
        command += [str(tmp_path / "whole" / "data.mdb"), str(tmp_path / str(seed)), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
        trials += done.stdout.count("checked")
        assert done.returncode <= 0, done.stderr  # below 0: LMDB itself met the page
        assert "Traceback" not in done.stderr
    assert trials > 5  # most files do not end the process
