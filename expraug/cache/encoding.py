"""Entries as bytes, under a checksum, and back.

A value is a checksum and the length of its header, the header as JSON, points, and the patch.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from PIL import Image, features

from expraug.cache.dependencies import xxhash
from expraug.cache.entry import CacheEntry

_CHECKSUM, _LENGTH = struct.Struct("<Q"), struct.Struct("<I")
_START = _CHECKSUM.size + _LENGTH.size


_KINDS = ("raw", "png", "webp", "jpeg")
_LARGEST = {"webp": 16383, "jpeg": 65535}
"""Sides beyond which a format cannot hold a picture."""


def split_encoding(encoding: str) -> tuple[str, int]:
    """Return kind and JPEG quality of "raw", "png", "webp", "jpeg" or "jpeg:QUALITY".

    Raises:
        ValueError: none of these, or a kind that this Pillow cannot write.
    """
    kind, _, quality = encoding.partition(":")
    good = kind in _KINDS and (not quality or (kind == "jpeg" and quality.isdecimal()))
    if not good or not 1 <= int(quality or 95) <= 100:
        raise ValueError(
            f"unknown cache encoding {encoding!r}: use 'raw', 'png', 'webp' (lossless), 'jpeg' or "
            "'jpeg:QUALITY' with a quality from 1 to 100"
        )
    if kind == "webp" and not features.check("webp"):
        raise ValueError("this Pillow was built without WebP: use encoding='raw'")
    return kind, int(quality or 95)


def encode(key: bytes, entry: CacheEntry, encoding: str = "raw") -> bytes:
    """Return the value of an entry; raise ValueError if its arrays are not as stated there."""
    patch, points = entry.patch, entry.points
    pixels = coordinates = b""
    if patch is not None:
        if patch.dtype != np.uint8 or patch.ndim not in (2, 3):
            raise ValueError(
                f"a patch is uint8 (h, w, c) or (h, w), not {patch.dtype} {patch.shape}"
            )
        kind, quality = split_encoding(encoding)
        holds = patch.shape[2:] in ((), (3,)) and min(patch.shape) > 0
        if not holds or max(patch.shape) > _LARGEST.get(kind, 2**31):
            kind = "raw"
        pixels = patch.tobytes() if kind == "raw" else _compress(patch, kind, quality)
        encoding = kind
    if points is not None:
        if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points are float32 (n, 2), not {points.dtype} {points.shape}")
        coordinates = points.astype("<f4").tobytes()
    header = json.dumps(
        (
            encoding,
            None if patch is None else patch.shape,
            None if points is None else len(points),
            [int(place) for place in entry.origin],
            {str(name): float(score) for name, score in entry.scores.items()},
            entry.reason,
        )
    ).encode()
    body = b"".join((_LENGTH.pack(len(header)), header, coordinates, pixels))
    return _CHECKSUM.pack(_checksum(key, body)) + body


def decode(key: bytes, value: bytes) -> CacheEntry | None:
    """Return the entry, or None if any byte is not what `encode` gave for this key."""
    body = memoryview(value)[_CHECKSUM.size :]
    if len(value) < _START or _CHECKSUM.unpack_from(value) != (_checksum(key, body),):
        return None
    start = _START + _LENGTH.unpack_from(body)[0]
    encoding, shape, count, origin, scores, reason = json.loads(value[_START:start])
    patch = points = None
    if count is not None:
        points = np.frombuffer(value, "<f4", 2 * count, start).reshape(count, 2)
        start += points.nbytes
    if shape is not None and encoding == "raw":
        patch = np.frombuffer(value, np.uint8, offset=start).reshape(shape)
    elif shape is not None:
        try:
            with Image.open(io.BytesIO(value[start:])) as image:
                grey = len(shape) == 2  # WebP has no grey: it comes back as three equal channels
                patch = (
                    np.asarray(image)[..., 0] if grey and image.mode != "L" else np.asarray(image)
                )
        except OSError:  # a Pillow without WebP
            return None
    return CacheEntry(patch, tuple(origin), scores, reason, points)


def _checksum(key: bytes, body: bytes | memoryview) -> int:
    # Seeded with the key, so that a whole value that lies under another key is damage too.
    checksum: int = xxhash.xxh3_64_intdigest(body, xxhash.xxh3_64_intdigest(key))
    return checksum


def _compress(patch: np.ndarray, kind: str, quality: int) -> bytes:
    options: dict[str, Any] = {
        "png": {"compress_level": 1},
        "webp": {"lossless": True, "quality": 0, "method": 0},
        "jpeg": {"quality": quality, "subsampling": 0},
    }
    out = io.BytesIO()
    Image.fromarray(patch).save(out, kind.upper(), **options[kind])
    return out.getvalue()
