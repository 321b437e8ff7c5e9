import time

from cached_faces import fill, holds, kept, key_of, pattern, run_lmdb, sizes_agree

from expraug.cache import CacheEntry, SynthesisCache
from expraug.cache.encoding import encode

SIZE = len(encode(b"k", CacheEntry(pattern(0))))


def test_overwriting_keeps_the_accounts_right(cache):
    for side in (24, 8, 40):
        fill(cache, range(10), side)
        fill(cache, [3, 3, 3], side)
        assert cache.info().entries == 10
        assert sizes_agree(cache)
    if cache.store == "lmdb":
        assert run_lmdb(cache, lambda txn, dbs: txn.stat(dbs["order"])["entries"]) == 10


def test_oldest_entries_are_evicted_first(tmp_path, store):
    cache = SynthesisCache(tmp_path, store, max_bytes=20 * SIZE)
    for n in range(50):
        fill(cache, [n])
        time.sleep(0.01)  # the age of a file is a time, and may be that coarse
        assert cache.info().bytes <= cache.max_bytes
    left = kept(cache, range(50))
    assert left == list(range(50 - len(left), 50))
    assert cache.stats.evicted == 50 - len(left)
    assert len(left) == 20 if store == "lmdb" else 18 <= len(left) <= 20
    fill(cache, range(100, 200))  # one batch larger than the limit
    left = kept(cache, range(200))
    assert min(left) >= 100
    assert 18 <= len(left) <= 20
    assert sizes_agree(cache)


def test_a_replaced_entry_keeps_its_age(tmp_path, store):
    cache = SynthesisCache(tmp_path, store, max_bytes=3 * SIZE)
    for n in (1, 2, 3, 1, 4):
        fill(cache, [n])
        time.sleep(0.01)
    assert not holds(cache, 1)
    assert holds(cache, 4)


def test_a_value_over_the_limit_is_not_stored(tmp_path, store):
    cache = SynthesisCache(tmp_path, store, max_bytes=3000)
    fill(cache, [1])
    assert not cache.put(key_of(2), CacheEntry(pattern(2, side=40)))
    assert cache.stats.failed == 1
    assert holds(cache, 1)
