import warnings

import lmdb
import numpy as np
import pytest
from crop_augmenter import MeanFaceDetector

from expraug import ExpressionAugmenter
from expraug.cache import CacheEntry, SynthesisCache, entry_key, hit_rate, image_digest


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Spares thousands of single puts the flushes."""
    real_open = lmdb.open
    monkeypatch.setattr(lmdb, "open", lambda path, **o: real_open(path, **{**o, "sync": False}))


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def look_up(cache, images, targets=1):
    for image in images:
        for target in range(targets):
            key = entry_key(image_digest(np.array([[image]]).view(np.uint8)), "pixel", target)
            if cache.get(key) is None:
                cache.put_many([(key, CacheEntry(None, reason="r"))])


def test_warns_when_no_image_ever_comes_back(tmp_path, store):
    cache = SynthesisCache(tmp_path, store, warn_after=1500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look_up(cache, range(1900))
    with pytest.warns(UserWarning, match="RandomExpression first") as caught:
        look_up(cache, range(1900, 5000))
    assert len(caught) == 1


def test_warns_early_on_a_cache_that_should_have_hit(tmp_path, store):
    look_up(SynthesisCache(tmp_path, store, warn_after=None), range(2000))
    with pytest.warns(UserWarning, match="RandomExpression first"):
        look_up(SynthesisCache(tmp_path, store, warn_after=2000), range(5000, 6000))


@pytest.mark.usefixtures("no_warnings")
def test_does_not_warn_while_known_images_meet_new_targets(tmp_path, store):
    cache = SynthesisCache(tmp_path, store, warn_after=1500)
    look_up(cache, range(300), targets=10)


@pytest.mark.usefixtures("no_warnings")
def test_does_not_warn_while_filling(tmp_path, store):
    cache = SynthesisCache(tmp_path, store, warn_after=500)
    with cache.filling():
        look_up(cache, range(2000))
    look_up(cache, range(2000))
    assert cache.warn_after == 500


@pytest.mark.usefixtures("no_warnings")
def test_does_not_warn_in_warm(tmp_path, store, monkeypatch):
    monkeypatch.setattr(hit_rate, "CHECK_EVERY", 10)
    cache = SynthesisCache(tmp_path, store, warn_after=20)
    rng = np.random.default_rng(0)
    faces = [(rng.integers(0, 256, (16, 16), np.uint8), "neutral") for _ in range(60)]
    augmenter = ExpressionAugmenter(
        "pixel",
        alignment=MeanFaceDetector(),
        check_landmarks=False,
        cache=cache,
        intensity_levels=1,
        batch_size=20,
    )
    report = augmenter.warm(faces, ["neutral", "happy"], progress=False)
    assert report.made == cache.stats.misses == 60
