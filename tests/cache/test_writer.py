"""The thread that stores what is made while the next faces are made."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from cached_faces import key_of

from expraug.cache import CacheEntry, CacheError, SynthesisCache
from expraug.cache.writer import MOST_WAITING

ENTRY = CacheEntry(np.full((4, 5, 3), 7, np.uint8))
WRONG = CacheEntry(np.zeros((4, 5), np.float32))  # no cache can hold floats


def test_get_waits_for_what_is_on_its_way(tmp_path):
    cache, release = SynthesisCache(tmp_path), threading.Event()

    def slowly():
        release.wait(10)
        return [ENTRY, ENTRY]

    cache.put_later([key_of(0), key_of(1)], slowly)
    assert cache.get(key_of(2)) is None, "another key need not wait"
    threading.Timer(0.1, release.set).start()
    assert np.array_equal(cache.get(key_of(1)).patch, ENTRY.patch)
    assert cache.stats.hits == 1


def test_whoever_gives_too_much_waits(tmp_path):
    cache, release, given = SynthesisCache(tmp_path), threading.Event(), []

    def slowly():
        release.wait(10)
        return [ENTRY]

    def give():
        for i in range(MOST_WAITING + 3):
            cache.put_later([key_of(i)], slowly)
            given.append(i)

    giver = threading.Thread(target=give)
    giver.start()
    giver.join(0.3)
    assert len(given) == MOST_WAITING, "the next one is queued, and waited for"
    release.set()
    giver.join(10)
    cache.flush()
    assert cache.info().entries == MOST_WAITING + 3


def test_an_error_of_the_thread_is_raised_once_and_nothing_else_is_lost(tmp_path):
    cache, release = SynthesisCache(tmp_path), threading.Event()

    def slowly():
        release.wait(10)
        return [WRONG]

    cache.put_later([key_of(0)], slowly)
    cache.put_later([key_of(1)], lambda: [ENTRY])
    release.set()
    with pytest.raises(
        CacheError, match=r"not be stored \(ValueError: a patch is uint8 .* float32"
    ):
        cache.flush()
    assert cache.get(key_of(1)) is not None
    cache.put_later([key_of(2)], lambda: [ENTRY])
    cache.flush()
    assert cache.info().entries == 2


def test_the_next_put_raises_it_too(tmp_path):
    cache = SynthesisCache(tmp_path)
    cache.put_later([key_of(0)], lambda: [WRONG])
    cache._writer.wait_for(key_of(0))
    with pytest.raises(CacheError, match="a patch is uint8"):
        cache.put_later([key_of(1)], lambda: [ENTRY])
    assert cache.get(key_of(1)) is not None, "what comes with the error is stored all the same"


def test_filling_ends_when_all_is_stored(tmp_path):
    cache = SynthesisCache(tmp_path)
    with cache.filling():
        assert cache.is_filling
        for i in range(20):
            cache.put_later([key_of(i)], lambda: [ENTRY])
    assert not cache.is_filling
    assert SynthesisCache(tmp_path, readonly=True).info().entries == 20
    with pytest.raises(CacheError, match="a patch is uint8"), cache.filling():
        cache.put_later([key_of(0)], lambda: [WRONG])


def interrupted(cache):
    with cache.filling():
        cache.put_later([key_of(1)], lambda: [ENTRY])
        cache.put_later([key_of(0)], lambda: [WRONG])
        raise KeyboardInterrupt


def test_another_error_is_not_hidden_by_one_of_the_thread(tmp_path):
    cache = SynthesisCache(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            interrupted(cache)
    assert any("a patch is uint8" in str(w.message) for w in told)
    assert cache.info().entries == 1, "what was made before the interruption is kept"


SCRIPT = """
import sys, time
import numpy as np
from cached_faces import key_of
from expraug.cache import CacheEntry, SynthesisCache

def slowly():
    time.sleep(0.3)
    return [CacheEntry(np.zeros((4, 5), {dtype}))]

cache = SynthesisCache(sys.argv[1])
cache.put_later([key_of(0)], slowly)
print("left")
"""


@pytest.mark.parametrize("dtype", ["np.uint8", "float"])
def test_a_process_ends_when_all_is_stored(tmp_path, dtype):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(dtype=dtype), str(tmp_path / "cache")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "left\n"
    if dtype == "float":
        assert "some synthetic faces could not be stored" in done.stderr
        assert "a patch is uint8" in done.stderr
    else:
        assert done.stderr == ""
        assert SynthesisCache(tmp_path / "cache", readonly=True).info().entries == 1


def test_a_fork_does_not_wait_for_the_thread_of_its_parent(tmp_path):
    cache, release = SynthesisCache(tmp_path), threading.Event()

    def slowly():
        release.wait(20)
        return [ENTRY]

    cache.put_later([key_of(0)], slowly)
    child = os.fork()
    if child == 0:
        missed = cache.get(key_of(0)) is None
        cache.put_later([key_of(1)], lambda: [ENTRY])
        cache.flush()
        os._exit(0 if missed and cache.get(key_of(1)) is not None else 1)
    assert os.waitpid(child, 0)[1] == 0
    release.set()
    cache.flush()
    assert cache.info().entries == 2
