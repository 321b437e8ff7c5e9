"""Damages image files in the ways that real sets are damaged."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Damage = Callable[[bytes, random.Random], bytes]


def fuzzed_header(data: bytes, draw: random.Random) -> bytes:
    """Change some of the first 64 bytes."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 12)):
        changed[draw.randrange(min(64, len(changed)))] = draw.randrange(256)
    return bytes(changed)


def fuzzed_anywhere(data: bytes, draw: random.Random) -> bytes:
    """Change some bytes anywhere."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 40)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def truncated(data: bytes, draw: random.Random) -> bytes:
    """Keep the beginning, or nothing."""
    return data[: draw.randrange(len(data))]


def other_type(data: bytes, draw: random.Random) -> bytes:
    """Be another kind of file under the same name."""
    starts = [b"%PDF-1.7\n", b"PK\x03\x04", b"RIFF\x24\0\0\0WAVE", b"<svg/>", b"\x7fELF", b"GIF89a"]
    starts += [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", b"P6 64 64 255\n", b"II*\0"]
    starts += [b"<html><body>404 Not Found</body></html>", b"version https://git-lfs.github.com\n"]
    return draw.choice(starts) + draw.randbytes(draw.choice((0, 10, 5000)))


def odd_mode(data: bytes, draw: random.Random) -> bytes:
    """Be an image in a rare mode; it can be read."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    mode = draw.choice(("1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.merge("LAB", image.split())
    elif mode in ("I", "F"):
        image = image.convert("L").convert(mode)
    else:
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, "TIFF" if mode in ("CMYK", "YCbCr", "LAB", "I", "F") else "PNG")
    return out.getvalue()


def odd_size(data: bytes, draw: random.Random) -> bytes:
    """Be tiny, or a line."""
    size = draw.choice(((1, 1), (15, 15), (1, 3000), (3000, 2), (16, 9), (0x10, 0x10)))
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize(size).save(out, "PNG")
    return out.getvalue()


def bomb(data: bytes, draw: random.Random) -> bytes:
    """Claim to be huge: a PNG of some hundred bytes, or of one that text makes large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    side = draw.choice((9_000, 60_000, 2**31 - 1))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    text = b"Comment\0\0" + zlib.compress(bytes(1 << 24)) if draw.random() < 0.3 else b"a\0\0"
    body = zlib.compress(bytes(1 << 16))
    parts = [(b"IHDR", header), (b"zTXt", text), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


KINDS: tuple[Damage, ...] = (
    *(fuzzed_header, fuzzed_anywhere, truncated, other_type, odd_mode, odd_size, bomb),
)


def damaged_files(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Put damaged copies among the faces of an ImageFolder; return their paths relative to it."""
    draw = random.Random(seed)
    whole = sorted(path for path in folder.rglob("*") if path.is_file())
    names = []
    for number in range(count):
        source = draw.choice(whole)
        data = KINDS[number % len(KINDS)](source.read_bytes(), draw)
        suffix = draw.choice((".jpg", ".png", ".webp", ".tif", ".bmp"))
        path = source.with_name(f"damaged{number:05d}{suffix}")
        path.write_bytes(data)
        names.append(path.relative_to(folder).as_posix())
    return names
