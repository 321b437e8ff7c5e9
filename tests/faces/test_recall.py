import numpy as np

from expraug.faces import CropDetector
from expraug.pipeline.memo import MemoizedDetector


class Counting(CropDetector):
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
    locations = detector([first, second, first, empty])
    assert counting.asked == [3]
    assert locations[0] is locations[2]
    assert locations[3] is None
    assert np.array_equal(locations[1].points, CropDetector()([second])[0].points)
    assert detector([empty, second])[1] is locations[1]
    assert counting.asked == [3], "none found is remembered too"
    assert detector([first.copy()])[0] is not locations[0]
    detector.forget()
    detector([first])
    assert counting.asked == [3, 1, 1]


def test_it_passes_for_the_locator_that_it_asks():
    detector = MemoizedDetector(CropDetector())
    assert detector.fingerprint == CropDetector().fingerprint
    assert (detector.constant, detector.landmarks) == (True, False)
