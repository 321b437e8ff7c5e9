"""A full disk: nothing is stored, nothing is lost, and room can be made."""

from __future__ import annotations

import os
import resource
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from cached_faces import fill, holds, kept

from expraug.cache import SynthesisCache


@pytest.fixture
def limited() -> Iterator[None]:
    """Files of this process can grow no further than 3 MB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("at", ["limit", "far below it"])
def test_room_can_be_made_on_a_full_disk(tmp_path: Path, limited: None, at: str) -> None:
    cache = SynthesisCache(tmp_path, "lmdb")
    number = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while fill(cache, [number], side=64):
            number += 1
        assert not fill(cache, range(1000, 1300), side=64)  # nor many at once
    assert cache.info().entries == number > 50
    assert all(holds(cache, n, 64) for n in range(number))
    if at == "far below it":
        assert cache.prune(max_bytes=0) == number
        assert fill(cache, range(40), side=64) == 40
    else:
        assert cache.prune(max_bytes=cache.info().bytes // 2) == number - number // 2
        assert kept(cache, range(number)) == list(range(number - number // 2, number))
        assert fill(cache, [5000], side=64) == 1
    assert not cache.verify().damaged
    cache.close()
    assert os.path.getsize(tmp_path / "data.mdb") <= 3 << 20
