"""Layout, killed writers, other machines' doings, and folders that hold something else."""

import errno
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cached_faces import fill, holds, kept, key_of, pattern, sizes_agree

from expraug.cache import (
    CacheEntry,
    CacheError,
    CacheFormatError,
    SynthesisCache,
    directory_store,
    entry_key,
    image_digest,
)

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def store():
    return "directory"


def temporary_files(cache):
    return sorted(cache.path.rglob("*.tmp"))


def values(cache):
    return [path for path in (cache.path / "entries").rglob("*") if path.is_file()]


def test_one_file_a_key_by_synthesizer_and_image(cache):
    cache.register("pixel 1")
    digests = [image_digest(pattern(n)) for n in range(5)]
    keys = [entry_key(d, "pixel 1", target) for d in digests for target in range(3)]
    assert cache.put_many((key, CacheEntry(None, reason="r")) for key in keys) == 15
    assert {path.name for path in values(cache)} == {key.hex() for key in keys}
    for path in values(cache):
        assert path.parent.parent.name == entry_key(digests[0], "pixel 1").hex()[:16]
        assert path.parent.name == path.name[16:19]
    (name,) = (cache.path / "fingerprints").iterdir()
    assert (name.name, name.read_text()) == (keys[0].hex()[:16], "pixel 1")


def test_keys_of_any_length(cache):
    keys = [b"k", b"key", b"8 bytes.", b"9 bytes..", bytes(20), b"x" * 100]
    assert cache.put_many((key, CacheEntry(pattern(len(key)))) for key in keys) == len(keys)
    assert all((cache.get(key).patch == pattern(len(key))).all() for key in keys)
    assert cache.info().entries == cache.verify().good == len(keys)
    with pytest.warns(UserWarning, match="cannot be stored"):
        assert not cache.put(b"x" * 200, CacheEntry(None))


def test_lmdb_is_not_needed(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "lmdb", raising=False)
    monkeypatch.setattr("expraug.cache.lmdb_store.lmdb", None)
    monkeypatch.setattr("expraug.cache.lmdb_environment.lmdb", None)
    cache = SynthesisCache(tmp_path, "directory")
    fill(cache, [1])
    assert holds(cache, 1)
    assert cache.info().entries == cache.verify().good == cache.prune(max_bytes=1) == 1


def test_a_writer_killed_before_the_rename_leaves_a_temporary_file(cache, monkeypatch):
    fill(cache, [1])
    child = FORK.Process(target=die_before_the_rename, args=(cache,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert cache.get(key_of(2)) is None
    assert cache.stats.damaged == 0
    (left,) = temporary_files(cache)
    assert cache.info().entries == cache.verify(repair=True).good == 1
    assert temporary_files(cache) == [left], "its writer might still live"
    os.utime(left, (time.time() - 7200,) * 2)
    cache.verify()
    assert temporary_files(cache) == [left], "nothing is deleted without repair"
    cache.verify(repair=True)
    assert not temporary_files(cache)
    assert fill(cache, [2]) == 1
    # what the killed writer had announced is still in the accounts, until the next walk
    assert cache.backend.size().bytes > cache.info().bytes
    cache.prune(max_bytes=1 << 30)
    assert sizes_agree(cache)


def die_before_the_rename(cache):
    directory_store.os = _KillsAtReplace()
    fill(cache, [2])


class _KillsAtReplace:
    def __getattr__(self, name):
        if name == "replace":
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(os, name)


@pytest.mark.parametrize("walk", ["prune", "delete", "evict"])
def test_any_walk_that_deletes_sweeps(cache, walk):
    fill(cache, range(10))
    old = [values(cache)[0].with_name(".1.tmp"), cache.path / ".2.tmp"]
    for path in old:
        path.touch()
        os.utime(path, (1, 1))
    if walk == "prune":
        assert cache.prune(max_bytes=1) == 10
    elif walk == "delete":
        assert cache.prune(fingerprint="pixel") == 10
    else:
        limited = SynthesisCache(cache.path, max_bytes=cache.info().bytes)
        assert fill(limited, [20]) == 1
        assert limited.stats.evicted > 0
    assert not temporary_files(cache)


def test_a_failed_write_leaves_nothing(cache, monkeypatch):
    fill(cache, [1])

    def fail(source, target):
        raise OSError(errno.EDQUOT, "disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(directory_store.os, "replace", fail)
        with pytest.warns(UserWarning, match="quota"):
            assert fill(cache, [1, 2]) == 0
    assert not temporary_files(cache)
    assert sizes_agree(cache)
    assert kept(cache, [1, 2]) == [1]


def test_files_that_another_machine_replaces_are_read_again(cache, monkeypatch):
    fill(cache, [1])
    real, stale = directory_store._open_file, [True, True]

    def reopen(path, flags):
        if "entries" in Path(path).parts and stale:
            stale.pop()
            raise OSError(errno.ESTALE, "stale file handle")
        return real(path, flags)

    monkeypatch.setattr(directory_store, "_open_file", reopen)
    assert holds(cache, 1)
    assert not stale


def test_a_read_that_fails_is_a_miss(cache, monkeypatch):
    fill(cache, [1])

    def fail(path, flags):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(directory_store, "_open_file", fail)
    with pytest.warns(UserWarning, match="read failed"):
        assert cache.get(key_of(1)) is None
    assert (cache.stats.misses, cache.stats.damaged) == (1, 1)


@pytest.mark.parametrize("content", [b"", b"half"])
def test_a_file_that_a_power_cut_emptied_is_damaged(cache, content):
    fill(cache, [1, 2])
    (cache.backend._file(key_of(1))).write_bytes(content)
    assert cache.get(key_of(1)) is None
    assert cache.stats.damaged == 1
    assert cache.verify(repair=True).deleted == 1
    assert holds(cache, 2)


def test_foreign_files_are_left_alone(cache):
    fill(cache, range(5))
    folder = values(cache)[0].parent
    foreign = [folder / ".nfs0001", folder / "note.txt", cache.path / "entries" / "README"]
    for path in foreign:
        path.touch()
        os.utime(path, (1, 1))
    assert cache.info().entries == cache.verify(repair=True).good == 5
    assert cache.prune(fingerprint="pixel") + cache.prune(max_bytes=1) == 5
    assert all(path.exists() for path in foreign)


def test_a_folder_deleted_in_use_is_made_again(cache):
    fill(cache, range(3))
    os.rename(cache.path, cache.path.with_name("gone"))
    assert cache.get(key_of(1)) is None
    assert fill(cache, [1]) == 1
    assert SynthesisCache(cache.path).store == "directory"
    assert sizes_agree(cache)


@pytest.mark.parametrize(
    ("marker", "message"),
    [('{"format": 99}', "found cache format 99"), ("{", "damaged"), ("[1]", "damaged")],
)
def test_another_format_is_named(tmp_path, marker, message):
    (tmp_path / "expraug-cache.json").write_text(marker)
    with pytest.raises(CacheFormatError, match=message) as raised:
        fill(SynthesisCache(tmp_path), [1])
    assert str(tmp_path) in str(raised.value)


def test_an_emptied_marker_is_written_again(cache):
    fill(cache, [1])
    (cache.path / "expraug-cache.json").write_bytes(b"")
    again = SynthesisCache(cache.path)
    assert again.store == "directory"
    assert holds(again, 1)
    assert (cache.path / "expraug-cache.json").read_bytes()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to drop rights")
def test_a_write_protected_folder_is_read():
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, which is root's alone
        os.chmod(folder, 0o755)
        cache = SynthesisCache(Path(folder) / "cache", "directory")
        fill(cache, [1])
        child = FORK.Process(target=read_without_rights, args=(cache,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert sizes_agree(cache)


def read_without_rights(cache):
    os.setuid(65534)
    assert holds(cache, 1)
    with pytest.warns(UserWarning, match="cannot be stored"):
        assert fill(cache, [2]) == 0
    assert cache.info().entries == cache.verify().good == 1
    with pytest.raises(CacheError, match="cannot be changed"):
        cache.prune(max_bytes=1)


def test_writers_on_several_machines_share_a_limit(tmp_path):
    # separate objects, as on separate machines: nothing is shared but the folder
    caches = [SynthesisCache(tmp_path, "directory", max_bytes=60_000) for _ in range(4)]
    walks = 0
    for n in range(200):
        before = caches[0].backend._accounts.read().number
        fill(caches[n % 4], [n])
        walks += caches[0].backend._accounts.read().number != before
        assert caches[0].info().bytes <= 60_000
    assert 200 - 34 <= sum(cache.stats.evicted for cache in caches) <= 200 - 28
    assert walks < 200 / 2, "a walk makes room for more than one entry"
    assert len(list((tmp_path / "sizes").iterdir())) <= 5


def test_eviction_holds_few_paths_at_a_time(cache, monkeypatch):
    fill(cache, range(300))
    largest = 0
    real = directory_store.heapq.heappush

    def push(heap, item):
        nonlocal largest
        real(heap, item)
        largest = max(largest, len(heap))

    monkeypatch.setattr(directory_store.heapq, "heappush", push)
    size = cache.info().bytes
    assert 5 <= cache.prune(max_bytes=size - size // 60) <= 6
    assert largest <= 8
