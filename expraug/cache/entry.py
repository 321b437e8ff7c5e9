"""What the cache holds, and the keys under which it is found."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from expraug.cache.dependencies import xxhash

SYNTHESIZER_BYTES = 8
IMAGE_BYTES = SYNTHESIZER_BYTES + 16
"""Keys that agree in this many bytes belong to one synthesizer and one image."""


@dataclass(frozen=True, slots=True, eq=False)
class CacheEntry:
    """What the cache holds under one key.

    Args:
        patch: uint8, (h, w, c) or (h, w): the changed box of the image; None where there is no
            picture. From `SynthesisCache.get` it may be a read-only view: copy it to change it.
        origin: (top, left) of the patch in the image, in pixels.
        scores: gate scores by name, such as {"identity": 0.97}.
        reason: why there is no picture, such as "no_face"; "" if there is one.
        points: float32 (n, 2), x and y in pixels: landmarks, for entries that hold them.
    """

    patch: np.ndarray | None
    origin: tuple[int, int] = (0, 0)
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    points: np.ndarray | None = None


def image_digest(image: np.ndarray) -> bytes:
    """Return a digest of an image's shape and pixels, 16 bytes (xxh3_128).

    Args:
        image: uint8, (h, w, c) or (h, w); any memory layout.

    Raises:
        ValueError: the image is not such an array.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(
            f"image_digest takes uint8 (h, w, c) or (h, w), not {image.dtype} {image.shape}"
        )
    digest = xxhash.xxh3_128(struct.pack(f"<{image.ndim}Q", *image.shape))
    digest.update(np.ascontiguousarray(image).data)
    key: bytes = digest.digest()
    return key


@lru_cache(maxsize=256)
def synthesizer_prefix(fingerprint: str) -> bytes:
    """Return the 8 bytes with which all keys of a synthesizer start."""
    prefix: bytes = xxhash.xxh64(fingerprint.encode()).digest()
    return prefix


def entry_key(digest: bytes, fingerprint: str, *parts: int) -> bytes:
    """Return the key of one synthetic face: synthesizer, image, then 2 bytes for each part.

    Args:
        digest: 16 bytes from `image_digest`.
        fingerprint: `Synthesizer.fingerprint`, or of whatever else makes such entries.
        parts: what else tells entries apart (target, intensity level, variant), in [0, 65535].

    Raises:
        ValueError: the digest has another length or a part is out of range.
    """
    if len(digest) != 16:
        raise ValueError(f"the digest must have 16 bytes, not {len(digest)}")
    try:
        return synthesizer_prefix(fingerprint) + digest + struct.pack(f">{len(parts)}H", *parts)
    except struct.error:
        raise ValueError(f"parts must be integers in [0, 65535], not {parts}") from None
