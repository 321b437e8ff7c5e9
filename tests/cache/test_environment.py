"""Opening, sharing inside one process, growth, and folders that hold something else."""

import os
import threading
import time

import lmdb
import pytest
from cached_faces import fill, holds, key_of

from expraug.cache import CacheError, CacheFormatError, SynthesisCache


def test_one_environment_for_all_objects_on_a_path(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache.path)
    other = SynthesisCache(tmp_path / "link", encoding="webp")
    fill(other, [1])
    assert holds(cache, 1)
    assert other.environment is cache.environment
    other.close()
    assert holds(cache, 1)


def test_a_dropped_cache_lets_go_of_its_files(tmp_path):
    cache = SynthesisCache(tmp_path)
    fill(cache, [1])
    del cache
    lmdb.open(str(tmp_path)).close()  # refused while it is open


def test_threads_share_it_while_the_map_grows_and_forks_happen(cache):
    wrong = []
    stop = threading.Event()

    def use(seed):
        n = seed
        while not stop.is_set():
            if not (fill(cache, [n], 150) and holds(cache, n, 150)):
                wrong.append(n)
            n += 4

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    forks = 0
    while (cache.path / "data.mdb").stat().st_size <= 20 << 20 or forks < 10:
        pid = os.fork()
        if pid == 0:
            good = fill(cache, [60000 + forks]) == 1 and holds(cache, 60000 + forks)
            os._exit(not good)
        assert os.waitpid(pid, 0)[1] == 0
        forks += 1
        assert time.monotonic() < deadline
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(holds(cache, 60000 + n) for n in range(forks))
    assert cache.verify().damaged == 0


def test_a_path_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="file"):
        SynthesisCache(tmp_path / "file").get(b"key")


@pytest.mark.parametrize("found", [b"99", None])
def test_another_format_is_named(cache, found):
    fill(cache, [1])
    cache.environment.run(lambda txn, dbs: txn.delete(b"format", db=dbs["meta"]), write=True)
    if found:
        cache.environment.run(
            lambda txn, dbs: txn.put(b"format", found, db=dbs["meta"]), write=True
        )
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
