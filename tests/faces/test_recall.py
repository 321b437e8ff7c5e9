import numpy as np

from expraug.faces import CropLocator
from expraug.faces.recall import RecallingLocator


class Counting(CropLocator):
    def __init__(self):
        super().__init__()
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        found = super().__call__(images)
        return [where if image.any() else None for image, where in zip(images, found, strict=True)]


def test_each_image_is_looked_at_once():
    counting = Counting()
    locator = RecallingLocator(counting)
    first, second, empty = (np.full((20, 20 + v), v, np.uint8) for v in (1, 2, 0))
    locations = locator([first, second, first, empty])
    assert counting.asked == [3]
    assert locations[0] is locations[2]
    assert locations[3] is None
    assert np.array_equal(locations[1].points, CropLocator()([second])[0].points)
    assert locator([empty, second])[1] is locations[1]
    assert counting.asked == [3], "none found is remembered too"
    assert locator([first.copy()])[0] is not locations[0]
    locator.forget()
    locator([first])
    assert counting.asked == [3, 1, 1]


def test_it_passes_for_the_locator_that_it_asks():
    locator = RecallingLocator(CropLocator())
    assert locator.fingerprint == CropLocator().fingerprint
    assert (locator.constant, locator.landmarks) == (True, False)
