import pytest

from expraug.cache import SynthesisCache


@pytest.fixture
def cache(tmp_path):
    cache = SynthesisCache(tmp_path / "cache")
    yield cache
    cache.close()
