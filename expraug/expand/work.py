"""What an engine needs to carry an expansion out, as plain data that can be sent to workers."""

from __future__ import annotations

from dataclasses import dataclass

from expraug.datasets.source import FaceSource
from expraug.expand.parts import Parts
from expraug.expand.plan import Plan
from expraug.expand.writers import WriteKind
from expraug.faces.image import MAX_FILE_BYTES, MAX_PIXELS
from expraug.faces.image_file import ImageFormat
from expraug.pipeline import ExpressionAugmenter

CHUNK_SIZES: dict[WriteKind, int] = {"folder": 64, "webdataset": 512, "parquet": 512}
"""Sources of a chunk, unless the user says otherwise: a tar or parquet file holds one chunk."""


@dataclass(frozen=True)
class Work:
    """An expansion, cut into chunks of consecutive sources.

    Args:
        source: the set.
        plan: what is made of it.
        augmenter: makes it; on a `MemoizedDetector`.
        parts: says which chunks are done, and where the expanded set lies.
        chunk_size: sources of a chunk. Batches do not reach over its end, so that a chunk gives
            the same bytes whatever is done before it, and where.
        write, image_format, with_originals, max_pixels, max_bytes: as `expand` takes them.
        num_workers: threads that decode, and as many that encode, in each process.
    """

    source: FaceSource
    plan: Plan
    augmenter: ExpressionAugmenter
    parts: Parts
    chunk_size: int
    write: WriteKind = "folder"
    image_format: ImageFormat = "png"
    with_originals: bool = False
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_FILE_BYTES
    num_workers: int = 4

    def indices(self, chunk: int) -> range:
        """Return the positions of a chunk's sources in the set."""
        start = chunk * self.chunk_size
        return range(start, min(start + self.chunk_size, len(self.source)))
