"""What an engine needs to carry an expansion out, as plain data that can be sent to workers."""

from __future__ import annotations

from dataclasses import dataclass

from expraug.datasets.source import FaceSource
from expraug.expand.options import ExpandOptions
from expraug.expand.parts import Parts
from expraug.expand.plan import Plan
from expraug.pipeline import ExpressionAugmenter


@dataclass(frozen=True)
class Work:
    """An expansion, cut into chunks of consecutive sources.

    Batches do not reach over the end of a chunk, so that it gives the same bytes whatever is done
    before it, and where.

    Args:
        source: the set.
        plan: what is made of it.
        augmenter: makes it; on a `MemoizedDetector`.
        parts: says which chunks are done, and where the expanded set lies.
        options: filled in.
    """

    source: FaceSource
    plan: Plan
    augmenter: ExpressionAugmenter
    parts: Parts
    options: ExpandOptions

    @property
    def num_workers(self) -> int:
        """Threads that decode, and as many that encode, in each process."""
        return self.options.num_workers or 1

    def indices(self, chunk: int) -> range:
        """Return the positions of a chunk's sources in the set."""
        size = self.options.chunk_size or 1
        return range(chunk * size, min((chunk + 1) * size, len(self.source)))
