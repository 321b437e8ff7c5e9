"""Looking for the face of an image once, however often the image comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from expraug.cache import CacheEntry, SynthesisCache, entry_key
from expraug.faces.detect import DetectedFace, Detector, all_faces
from expraug.faces.pixels import Pixels, as_array
from expraug.pipeline.synthetic import digests_of


class MemoizedDetector:
    """A detector that looks at each image once.

    Images are told apart by their pixels. What is found stays in memory until `forget`, and in the
    cache, if there is one, under the detector's fingerprint and the type of its device.

    Args:
        detector: looks for the faces. What follows from an image's size alone is not remembered.
        cache: keeps what is found.
    """

    tensors = True

    def __init__(self, detector: Detector, cache: SynthesisCache | None = None) -> None:
        self.detector, self.cache = detector, cache
        self.fingerprint, self.constant = detector.fingerprint, detector.constant
        self.landmarks = getattr(detector, "landmarks", False)
        self._known: dict[bytes, DetectedFace | None] = {}

    @property
    def cache_name(self) -> str:
        """What its keys in the cache are made of."""
        device = getattr(self.detector, "device", None)
        return f"{self.fingerprint}|{'cpu' if device is None else device.type}"

    def to(self, device: str | torch.device) -> MemoizedDetector:
        """Move the detector to a device, and return this; what is in memory is let go of."""
        move: Any = getattr(self.detector, "to", None)
        if move is not None:
            move(device)
        self.forget()
        return self

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._known.clear()

    def __call__(
        self, images: Sequence[Pixels], digests: Sequence[bytes] | None = None
    ) -> list[DetectedFace | None]:
        """Return what the detector does.

        Args:
            images: (H, W) or (H, W, 3) uint8 arrays, or (1 or 3, H, W) tensors.
            digests: of the images, if they are known.
        """
        if self.constant:
            return self._detect(images)
        if digests is None:
            digests = digests_of(images)
        unknown = {d: im for d, im in zip(digests, images, strict=True) if d not in self._known}
        if self.cache is not None:
            for digest in list(unknown):
                entry = self.cache.get(entry_key(digest, self.cache_name))
                if entry is not None:
                    self._known[digest] = _face(entry)
                    del unknown[digest]
        if unknown:
            found = self._detect(list(unknown.values()))
            self._known.update(zip(unknown, found, strict=True))
            if self.cache is not None and not self.cache.readonly:
                keys = [entry_key(digest, self.cache_name) for digest in unknown]
                entries = [_entry(face) for face in found]
                if self.cache.is_filling:
                    self.cache.put_later(keys, lambda: entries)
                else:
                    self.cache.put_many(zip(keys, entries, strict=True))
        return [self._known[digest] for digest in digests]

    def detect_all(self, images: Sequence[Pixels]) -> list[list[DetectedFace]]:
        """Return all faces of each image, the largest first; these are not remembered."""
        return all_faces(self.detector, images)

    def _detect(self, images: Sequence[Pixels]) -> list[DetectedFace | None]:
        if not getattr(self.detector, "tensors", False):
            images = [as_array(im) if isinstance(im, torch.Tensor) else im for im in images]
        return self.detector(images)


def _face(entry: CacheEntry) -> DetectedFace | None:
    if entry.points is None:
        return None
    return DetectedFace.unpack(entry.points, int(entry.scores["faces"]))


def _entry(face: DetectedFace | None) -> CacheEntry:
    if face is None:
        return CacheEntry(None, reason="no_face")
    return CacheEntry(None, scores={"faces": float(face.faces)}, points=face.pack())
