"""A locator that looks for each face once, though the plan and the augmenter both ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expraug.faces.locate import Location, Locator


class RecallingLocator:
    """Remembers where the faces of the images at hand are, so that each is looked for once.

    Args:
        locator: looks for the faces.
    """

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self.fingerprint, self.constant = locator.fingerprint, locator.constant
        self.landmarks = getattr(locator, "landmarks", False)
        self._known: dict[int, tuple[np.ndarray, Location | None]] = {}

    def forget(self) -> None:
        """Let go of the images at hand."""
        self._known.clear()

    def __call__(self, images: Sequence[np.ndarray]) -> list[Location | None]:
        new = [
            image for image in {id(i): i for i in images}.values() if id(image) not in self._known
        ]
        for image, location in zip(new, self.locator(new) if new else [], strict=True):
            self._known[id(image)] = (image, location)  # held, so that its id stays its own
        return [self._known[id(image)][1] for image in images]
