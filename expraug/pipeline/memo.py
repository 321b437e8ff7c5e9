"""Looking for the face of an image once, however often the image comes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expraug.cache import CacheEntry, SynthesisCache, entry_key, image_digest
from expraug.faces.detect import DetectedFace, Detector, all_faces


class MemoizedDetector:
    """A detector that looks at each image once.

    Images are told apart by their pixels. What is found stays in memory until `forget`, and in the
    cache, if there is one, under the detector's fingerprint.

    Args:
        detector: looks for the faces. What follows from an image's size alone is not remembered.
        cache: keeps what is found.
    """

    def __init__(self, detector: Detector, cache: SynthesisCache | None = None) -> None:
        self.detector, self.cache = detector, cache
        self.fingerprint, self.constant = detector.fingerprint, detector.constant
        self.landmarks = getattr(detector, "landmarks", False)
        self._known: dict[bytes, DetectedFace | None] = {}

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._known.clear()

    def __call__(
        self, images: Sequence[np.ndarray], digests: Sequence[bytes] | None = None
    ) -> list[DetectedFace | None]:
        """Return what the detector does.

        Args:
            images: as the detector takes them.
            digests: of the images, if they are known.
        """
        if self.constant:
            return self.detector(images)
        if digests is None:
            by_array = {id(image): image_digest(image) for image in images}
            digests = [by_array[id(image)] for image in images]
        unknown = {d: im for d, im in zip(digests, images, strict=True) if d not in self._known}
        if self.cache is not None:
            for digest in list(unknown):
                entry = self.cache.get(entry_key(digest, self.fingerprint))
                if entry is not None:
                    self._known[digest] = _face(entry)
                    del unknown[digest]
        if unknown:
            found = self.detector(list(unknown.values()))
            self._known.update(zip(unknown, found, strict=True))
            if self.cache is not None and not self.cache.readonly:
                self.cache.put_many(
                    (entry_key(digest, self.fingerprint), _entry(face))
                    for digest, face in zip(unknown, found, strict=True)
                )
        return [self._known[digest] for digest in digests]

    def detect_all(self, images: Sequence[np.ndarray]) -> list[list[DetectedFace]]:
        """Return all faces of each image, the largest first; these are not remembered."""
        return all_faces(self.detector, images)


def _face(entry: CacheEntry) -> DetectedFace | None:
    if entry.points is None:
        return None
    return DetectedFace.unpack(entry.points, int(entry.scores["faces"]))


def _entry(face: DetectedFace | None) -> CacheEntry:
    if face is None:
        return CacheEntry(None, reason="no_face")
    return CacheEntry(None, scores={"faces": float(face.faces)}, points=face.pack())
