import os
import pickle
import resource
import signal
import warnings

import numpy as np
import pytest
from cached_faces import fill, holds, key_of, pattern, same, sizes_agree

from expraug.cache import CacheEntry, CacheError, CacheFormatError, SynthesisCache, find_store


def test_put_and_get(cache):
    assert cache.get(key_of(1)) is None
    assert cache.put(key_of(1), CacheEntry(pattern(1), (3, 4), {"identity": 0.97}))
    assert cache.put(key_of(2), CacheEntry(None, reason="no_face"))
    assert fill(cache, [3]) == 1
    entry = cache.get(key_of(1))
    assert same(entry, CacheEntry(pattern(1), (3, 4), {"identity": 0.97}))
    assert cache.get(key_of(2)).reason == "no_face"
    assert cache.info().entries == 3
    assert (cache.stats.hits, cache.stats.misses) == (2, 1)
    cache.close()
    assert holds(cache, 1)  # opens again


def test_a_large_generator_is_stored_in_batches(cache):
    assert fill(cache, range(700)) == 700
    assert all(holds(cache, n) for n in range(0, 700, 50))


def test_damage_on_the_disk_gives_no_wrong_pixels(cache):
    fill(cache, range(60), 60)
    cache.close()
    for file in [path for path in cache.path.rglob("*") if path.is_file()]:
        data = bytearray(file.read_bytes())
        for n in range(0, 60, 3):
            found = data.find(pattern(n, 60).tobytes()[:64])
            if found >= 0:
                data[found + 97 * n] ^= 16
        file.write_bytes(data)
    assert [n for n in range(60) if not holds(cache, n, 60)] == list(range(0, 60, 3))
    assert cache.stats.damaged == 20


def test_an_existing_cache_is_recognised(cache):
    assert find_store(cache.path) is None
    fill(cache, [1])
    assert find_store(cache.path) == cache.store
    assert holds(SynthesisCache(cache.path), 1)
    assert SynthesisCache(cache.path).store == cache.store
    other = "lmdb" if cache.store == "directory" else "directory"
    with pytest.raises(CacheFormatError, match=f"store='{cache.store}', not '{other}'"):
        SynthesisCache(cache.path, other)


def test_unknown_stores_are_refused(tmp_path):
    with pytest.raises(ValueError, match="store"):
        SynthesisCache(tmp_path, "redis")


def test_pickles_as_its_settings(cache):
    fill(cache, [1])
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.path, copy.store) == (cache.path, cache.store)
    assert copy.stats.hits == 0
    assert holds(copy, 1)


def test_readonly_counts_what_it_cannot_store(cache):
    fill(cache, [1])
    reader = SynthesisCache(cache.path, readonly=True)
    with pytest.warns(UserWarning, match="readonly=True"):
        assert fill(reader, [2, 3]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fill(reader, [4]) == 0  # warns once
    assert reader.stats.failed == 3
    assert holds(reader, 1)
    assert reader.verify().good == reader.info().entries == 1
    for change in (lambda: reader.prune(max_bytes=1), lambda: reader.verify(repair=True)):
        with pytest.raises(CacheError, match="readonly"):
            change()


def test_readonly_needs_a_cache(tmp_path):
    with pytest.raises(CacheError, match="no cache to read"):
        SynthesisCache(tmp_path / "none", readonly=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_full_disk_costs_values_not_the_training(cache):
    fill(cache, range(4))
    pid = os.fork()
    if pid == 0:
        try:
            fill_the_disk(cache)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert holds(cache, 1)
    assert fill(cache, [5]) == 1


def fill_the_disk(cache):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = {"lmdb": 1 << 20, "directory": 10_000}[cache.store]  # of one file
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.warns(UserWarning, match="free disk space"):
        assert fill(cache, range(10, 60), 150) == 0
    assert cache.stats.failed == 50
    assert holds(cache, 2)
    assert sizes_agree(cache)


def test_arrays_from_the_cache_do_not_change_it(cache):
    fill(cache, [1])
    patch = cache.get(key_of(1)).patch
    with pytest.raises(ValueError, match="read-only"):
        patch[0] = 0
    assert np.array_equal(patch, pattern(1))


def test_a_path_that_cannot_be_a_folder(tmp_path, store):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="file"):
        SynthesisCache(tmp_path / "file", store).get(b"key")


def test_expand_keeps_faces_in_either(cache, faces, tmp_path):
    from crop_augmenter import MeanFaceDetector

    from expraug.expand import expand

    cache.info()  # makes it
    options = {"synthesizer": "pixel", "targets": ["happy"], "gate": None, "num_workers": 1}
    options |= {"alignment": MeanFaceDetector(), "check_landmarks": False}
    first = expand(faces, tmp_path / "first", cache=cache.path, **options)
    again = expand(faces, tmp_path / "again", cache=cache.path, **options)
    assert first.made == again.cached > 0
    assert first.cached == again.made == 0
    assert cache.info().entries == first.made
