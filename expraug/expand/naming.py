"""File and folder names made from other people's names, which may hold anything."""

from __future__ import annotations

import re

import xxhash

from expraug.expand.manifest import MANIFEST

MAX_BYTES = 120
"""Longest name in UTF-8 bytes, so that with what is appended it stays under file systems' 255."""

_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


def safe_name(name: str) -> str:
    """Return a name as one component of a path: never a separator, "..", hidden or over-long.

    Good names come back as they are, spaces and accents included. A name that had to be changed
    gets a short hash of the original appended, so that different names stay different.
    """
    cleaned = "".join(c if c.isprintable() else "_" for c in _FORBIDDEN.sub("_", name))
    cleaned = cleaned.strip(" ").lstrip(".").rstrip(". ")
    cleaned = cleaned.encode()[:MAX_BYTES].decode(errors="ignore")
    reserved = not name or _DEVICE.fullmatch(name) or name.lower() == MANIFEST
    if cleaned == name and not reserved:
        return name
    digest = xxhash.xxh64_hexdigest(name.encode("utf-8", "surrogatepass"))
    return f"{cleaned or 'name'}-{digest}"


def synthetic_name(stem: str, synthesizer: str, level: int, variant: int, image_format: str) -> str:
    """Return `<stem>__<synthesizer>_<intensity>_<variant>.<suffix>`."""
    suffix = "jpg" if image_format == "jpeg" else image_format
    name = f"{safe_name(stem)}__{safe_name(synthesizer)}_{level / 100:.2f}_{variant}"
    return f"{name}.{suffix}"
