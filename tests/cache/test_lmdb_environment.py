"""Opening, sharing inside one process, kills, and folders that hold something else."""

import multiprocessing
import os
import signal

import lmdb
import pytest
from cached_faces import fill, holds, key_of, run_lmdb

from expraug.cache import CacheFormatError, SynthesisCache

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def store():
    return "lmdb"


def run_killed(cache, target):
    child = multiprocessing.get_context("fork").Process(target=target, args=(cache,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_one_environment_for_all_objects_on_a_path(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache.path)
    other = SynthesisCache(tmp_path / "link", encoding="webp")
    fill(other, [1])
    assert holds(cache, 1)
    assert other.backend.environment is cache.backend.environment
    other.close()
    assert holds(cache, 1)


def test_a_dropped_cache_lets_go_of_its_files(tmp_path):
    cache = SynthesisCache(tmp_path)
    fill(cache, [1])
    del cache
    lmdb.open(str(tmp_path)).close()  # refused while it is open


@pytest.mark.parametrize("found", [b"99", None])
def test_another_format_is_named(cache, found):
    fill(cache, [1])
    run_lmdb(cache, lambda txn, dbs: txn.delete(b"format", db=dbs["meta"]), write=True)
    if found:
        run_lmdb(cache, lambda txn, dbs: txn.put(b"format", found, db=dbs["meta"]), write=True)
    cache.close()
    with pytest.raises(CacheFormatError, match=f"found cache format {found!r}") as raised:
        cache.get(key_of(1))
    assert str(cache.path) in str(raised.value)


@pytest.mark.parametrize("names", [[b"meta", b"other"], [b"other"]])
def test_a_database_of_something_else_is_left_alone(tmp_path, names):
    with lmdb.open(str(tmp_path)) as environment, environment.begin(write=True) as txn:
        for name in names:
            txn.put(name, b"1")
    before = (tmp_path / "data.mdb").read_bytes()
    with pytest.raises(CacheFormatError, match="no cache of expraug"):
        fill(SynthesisCache(tmp_path), [1])
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_files_that_lmdb_cannot_read_are_named(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(CacheFormatError, match="damaged"):
        SynthesisCache(tmp_path).get(b"key")


def test_files_of_another_engine_are_named(tmp_path):
    try:
        lmdb.open(str(tmp_path), lib_version=1).close()
    except TypeError:
        pytest.skip("this lmdb has one engine")
    with pytest.raises(CacheFormatError, match="another LMDB"):
        SynthesisCache(tmp_path).get(b"key")


def test_a_cut_file_is_refused_before_it_kills_the_process(cache):
    fill(cache, range(200))
    cache.close()
    os.truncate(cache.path / "data.mdb", 100 * 4096)
    with pytest.raises(CacheFormatError, match="interrupted"):
        cache.get(key_of(1))


def test_killed_readers_leave_no_slots(cache):
    fill(cache, [1])
    for _ in range(3):
        run_killed(cache, die_in_a_transaction)
    cache.close()
    assert holds(cache, 1)
    assert "no active readers" in cache.backend.environment._handle.readers()


def die_in_a_transaction(cache):
    run_lmdb(cache, lambda txn, dbs: os.kill(os.getpid(), signal.SIGKILL))


def test_a_writer_killed_inside_a_transaction_blocks_nobody(cache):
    fill(cache, [1])
    run_killed(cache, die_while_writing)
    assert fill(cache, [2]) == 1
    assert cache.get(key_of(3)) is None


def die_while_writing(cache):
    def body(txn, dbs):
        txn.put(key_of(3), b"half", db=dbs["values"])
        os.kill(os.getpid(), signal.SIGKILL)

    run_lmdb(cache, body, write=True)


def test_a_write_protected_folder_is_read(cache, monkeypatch):
    fill(cache, [1])
    cache.close()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert holds(cache, 1)
    with pytest.warns(UserWarning, match="cannot be stored"):
        assert fill(cache, [2]) == 0
    assert cache.stats.failed == 1
