import pytest

from expraug.cache import SynthesisCache


@pytest.fixture(params=["lmdb", "directory"])
def store(request):
    return request.param


@pytest.fixture
def cache(tmp_path, store):
    cache = SynthesisCache(tmp_path / "cache", store)
    yield cache
    cache.close()
