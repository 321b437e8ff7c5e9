from cached_faces import count, fill, holds, kept, key_of, pattern

from expraug.cache import CacheEntry, SynthesisCache
from expraug.cache.encoding import encode
from expraug.cache.eviction import stored_bytes


def test_overwriting_keeps_the_accounts_right(cache):
    for side in (24, 8, 40):
        fill(cache, range(10), side)
        fill(cache, [3, 3, 3], side)
        assert cache.info().entries == count(cache, "order") == 10
        assert cache.info().bytes == cache.environment.run(stored_bytes)


def test_oldest_entries_are_evicted_first(tmp_path):
    size = len(encode(b"k", CacheEntry(pattern(0))))
    cache = SynthesisCache(tmp_path, max_bytes=20 * size)
    for n in range(50):
        fill(cache, [n])
        assert cache.info().bytes <= cache.max_bytes
    assert kept(cache, range(50)) == list(range(30, 50))
    assert cache.stats.evicted == 30
    assert count(cache, "order") == 20
    fill(cache, range(100, 200))  # one batch larger than the limit
    assert kept(cache, range(200)) == list(range(180, 200))
    assert cache.environment.run(stored_bytes) == cache.info().bytes


def test_a_value_over_the_limit_is_not_stored(tmp_path):
    cache = SynthesisCache(tmp_path, max_bytes=3000)
    fill(cache, [1])
    assert not cache.put(key_of(2), CacheEntry(pattern(2, side=40)))
    assert cache.stats.failed == 1
    assert holds(cache, 1)
