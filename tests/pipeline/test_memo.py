import numpy as np
import pytest

from expraug.cache import SynthesisCache
from expraug.faces import CropDetector
from expraug.faces.detect import DetectedFace
from expraug.pipeline.memo import MemoizedDetector


class Finds(CropDetector):
    """Finds three faces at known points in bright images, none in dark ones."""

    constant = False

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


class Counting(CropDetector):
    """Looks at the pixels, and remembers how many images it was asked about."""

    constant = False

    def __init__(self):
        super().__init__()
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        found = super().__call__(images)
        return [where if image.any() else None for image, where in zip(images, found, strict=True)]


def test_each_image_is_looked_at_once():
    counting = Counting()
    detector = MemoizedDetector(counting)
    first, second, empty = (np.full((20, 20 + v), v, np.uint8) for v in (1, 2, 0))
    found = detector([first, second, first, empty])
    assert counting.asked == [3]
    assert found[0] is found[2]
    assert found[3] is None
    assert np.array_equal(found[1].points, CropDetector()([second])[0].points)
    assert detector([empty, second])[1] is found[1]
    assert counting.asked == [3], "none found is remembered too"
    assert detector([first.copy()])[0] is found[0], "an equal image is the same image"
    detector.forget()
    detector([first])
    assert counting.asked == [3, 1]


def test_what_follows_from_the_size_is_not_remembered():
    counting = Counting()
    counting.constant = True
    detector = MemoizedDetector(counting)
    image = np.ones((20, 20), np.uint8)
    for _ in range(2):
        detector([image, image])
    assert counting.asked == [2, 2]


def test_it_passes_for_the_detector_that_it_asks():
    detector = MemoizedDetector(CropDetector())
    assert detector.fingerprint == CropDetector().fingerprint
    assert (detector.constant, detector.landmarks) == (True, False)
