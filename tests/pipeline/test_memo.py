import numpy as np
import pytest

from expraug.cache import SynthesisCache
from expraug.faces import CropDetector
from expraug.faces.detect import DetectedFace
from expraug.pipeline.memo import MemoizedDetector


class Finds(CropDetector):
    """Finds three faces at known points in bright images, none in dark ones."""

    def __init__(self, fingerprint="finds"):
        self.fingerprint = fingerprint
        self.asked = 0

    def __call__(self, images):
        self.asked += len(images)
        points = np.arange(10, dtype=np.float32).reshape(5, 2)
        return [DetectedFace(points + image.max(), 3) if image.max() else None for image in images]


@pytest.mark.parametrize("store", ["lmdb", "directory"])
def test_what_was_found_and_what_was_not_is_kept(tmp_path, store):
    cache = SynthesisCache(tmp_path, store)
    images = [np.full((8, 9), value, np.uint8) for value in (5, 0, 7)]
    finds = Finds()
    expected = finds(images)
    assert_same(MemoizedDetector(finds, cache)(images), expected)
    assert finds.asked == 6
    again = MemoizedDetector(finds, SynthesisCache(tmp_path, readonly=True))
    assert_same(again([images[2].copy(), *images[:2]]), [expected[2], *expected[:2]])
    assert finds.asked == 6
    other = Finds("other")
    MemoizedDetector(other, cache)(images[:2])
    assert other.asked == 2


def assert_same(found, expected):
    for left, right in zip(found, expected, strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            assert left.faces == right.faces
            assert np.array_equal(left.points, right.points)


def test_a_readonly_cache_is_only_read(tmp_path):
    SynthesisCache(tmp_path).info()
    cache = SynthesisCache(tmp_path, readonly=True)
    finds = Finds()
    for _ in range(2):
        MemoizedDetector(finds, cache)([np.ones((8, 9), np.uint8)])
    assert finds.asked == 2
    assert cache.stats.failed == 0
