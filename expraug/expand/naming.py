"""File and folder names made from other people's names, which may hold anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath

import xxhash

from expraug.expand.layout import RESERVED

MAX_BYTES = 120
"""Longest name in UTF-8 bytes, so that with what is appended it stays under file systems' 255."""

_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


@lru_cache(maxsize=4096)
def safe_name(name: str) -> str:
    """Return a name as one component of a path: never a separator, "..", hidden or over-long.

    Good names come back as they are, spaces and accents included. A name that had to be changed
    gets a short hash of the original appended, so that different names stay different.
    """
    cleaned = "".join(c if c.isprintable() else "_" for c in _FORBIDDEN.sub("_", name))
    cleaned = cleaned.strip(" ").lstrip(".").rstrip(". ")
    cleaned = cleaned.encode()[:MAX_BYTES].decode(errors="ignore")
    reserved = not name or _DEVICE.fullmatch(name) or name.lower() in RESERVED
    if cleaned == name and not reserved:
        return name
    digest = xxhash.xxh64_hexdigest(name.encode("utf-8", "surrogatepass"))
    return f"{cleaned or 'name'}-{digest}"


def synthetic_name(
    stem: str, synthesizer: str, percent: int, variant: int, image_format: str
) -> str:
    """Return `<stem>__<synthesizer>_<intensity>_<variant>.<suffix>`."""
    suffix = "jpg" if image_format == "jpeg" else image_format
    name = f"{safe_name(stem)}__{safe_name(synthesizer)}_{percent / 100:.2f}_{variant}"
    return f"{name}.{suffix}"


def original_path(class_name: str, origin: str, stem: str) -> str:
    """Return where a source is copied to: `<class>/<file>` of a set of files, or `<class>/<stem>`.

    Folders in a class folder become part of the file's name, "deep/a.jpg" that of "deep-a.jpg":
    timm and `datasets` take the innermost folder for the class. What `<class>/<stem>` does not
    have, a suffix, the image itself tells.
    """
    path = PurePosixPath(origin)
    *folders, name = path.parts
    if folders[:1] != [class_name]:  # a row of a file, or a set whose folders are no classes
        return f"{safe_name(class_name)}/{safe_name(stem)}"
    suffix = PurePosixPath(name).suffix
    inner = safe_name("-".join([*folders[1:], name.removesuffix(suffix)]))
    return f"{safe_name(class_name)}/{inner}{suffix}"


def digest_of(origin: str) -> str:
    """Return 16 hexadecimal digits that tell a source from the others of its set."""
    return xxhash.xxh64_hexdigest(origin.encode("utf-8", "replace"))


def clashing(names: Sequence[str]) -> list[int]:
    """Return the indices of names that are not alone, on file systems that ignore case as well."""
    keys = [xxhash.xxh64_intdigest(n.casefold().encode("utf-8", "replace")) for n in names]
    counts = Counter(keys)
    return [i for i, key in enumerate(keys) if counts[key] > 1]
