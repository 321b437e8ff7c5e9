"""Source files that are not what they were when a part of an expanded set was made of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from expraug.datasets.exclusions import listed_origin
from expraug.datasets.source import FaceSource, Listed
from expraug.expand.parts import DestinationError, Parts


def check_unchanged(
    source: FaceSource, listing: Sequence[Listed], parts: Parts, threads: int
) -> None:
    """Compare the digests in the manifest with the source files, all of which are read.

    Args:
        source: the set.
        listing: its items.
        parts: what is done.
        threads: that read.

    Raises:
        DestinationError: one differs.
    """
    made_of: dict[str, str] = {}
    for table in parts.tables(["source", "source_digest"]):
        pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        made_of.update((origin, digest) for origin, digest in pairs if digest is not None)
    if not made_of:
        return
    names = [listed_origin(one.origin) for one in listing]
    alone = Counter(names)  # bytes that are no text make two names one
    known = [
        (i, listing[i].origin, made_of[name])
        for i, name in enumerate(names)
        if name in made_of and alone[name] == 1
    ]

    def differs(one: tuple[int, str, str]) -> bool:
        file = source[one[0]].file
        try:
            data = file if isinstance(file, bytes) else file.read_bytes()
        except OSError:
            return True
        return hashlib.sha256(data).hexdigest() != one[2]

    with ThreadPoolExecutor(threads, "expraug-digest") as pool:
        changed = [one for one, other in zip(known, pool.map(differs, known), strict=True) if other]
    if changed:
        raise DestinationError(
            f"{len(changed):,} of the source files changed since {parts.folder} was made of them, "
            f"as {changed[0][1]}; --overwrite makes the set anew"
        )
