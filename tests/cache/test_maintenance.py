import pytest
from cached_faces import fill, holds, key_of, overwrite_raw, sizes_agree

from expraug.cache import CacheEntry, VerifyReport, lmdb_store


def test_damaged_values_are_counted_and_repaired(cache):
    fill(cache, range(3))
    value = cache.backend.get(key_of(1))
    overwrite_raw(cache, key_of(1), value[:-1] + bytes([value[-1] ^ 1]))
    overwrite_raw(cache, key_of(2), cache.backend.get(key_of(0)))  # whole, but another's
    assert holds(cache, 0)
    assert cache.get(key_of(1)) is None
    assert cache.get(key_of(2)) is None
    assert (cache.stats.damaged, cache.stats.misses) == (2, 2)
    assert cache.verify() == VerifyReport(good=1, damaged=2, deleted=0)
    assert cache.verify(repair=True) == VerifyReport(good=1, damaged=2, deleted=2)
    assert cache.info().entries == 1
    assert sizes_agree(cache)
    fill(cache, [1, 2])
    assert all(holds(cache, n) for n in range(3))


@pytest.mark.parametrize("repair", [False, True])
def test_verify_goes_through_all_chunks(cache, monkeypatch, repair):
    monkeypatch.setattr(lmdb_store, "CHECKED_AT_ONCE", 4)
    fill(cache, range(17))
    for n in (0, 5, 6, 16):
        overwrite_raw(cache, key_of(n), b"x")
    assert cache.verify(repair=repair) == VerifyReport(13, 4, 4 * repair)
    assert cache.info().entries == 17 - 4 * repair


def test_info_and_prune_by_synthesizer(cache, monkeypatch):
    monkeypatch.setattr(lmdb_store, "AT_ONCE", 1000)
    for name, number in (("pixel 1", 2500), ("transfer 1", 30)):
        cache.register(name)
        cache.put_many((key_of(n, name), CacheEntry(None, reason="r")) for n in range(number))
    fill(cache, [5])  # not registered
    found = {f.name: f.entries for f in cache.info().fingerprints.values()}
    assert found == {"pixel 1": 2500, "transfer 1": 30, "": 1}
    assert sizes_agree(cache)
    assert 0 < cache.info().bytes < cache.info().file_bytes
    assert cache.prune(fingerprint="pixel 1") == 2500
    assert cache.prune(fingerprint="pixel") == 1
    assert [f.name for f in cache.info().fingerprints.values()] == ["transfer 1"]
    assert cache.info().entries == 30
    half = cache.info().bytes // 2
    assert cache.prune(max_bytes=half) == 15
    assert cache.info().bytes <= half
    assert cache.backend.get(key_of(0, "transfer 1")) is None
    assert cache.backend.get(key_of(29, "transfer 1")) is not None
