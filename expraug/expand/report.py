"""What an expansion did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from expraug.expand.manifest import MANIFEST
from expraug.expand.parts import Parts
from expraug.expand.plan import Plan
from expraug.expressions import Expression


@dataclass
class Report:
    """What is there of an expanded set, made now or before.

    Args:
        folder: the expanded set.
        complete: whether all of it is there; else other shards are still to come.
        planned: synthetic faces that the plan asks for, by class folder.
        made: synthetic faces that were made.
        cached: synthetic faces that came from the cache.
        skipped: rows of the manifest that have no file, by reason.
        sources: sources by class folder.
        originals: sources that were copied along, by class folder.
        synthetic: synthetic faces by class folder.
        gate: what scored the synthetic faces, or why nothing did.
    """

    folder: Path
    complete: bool = False
    planned: Counter[str] = field(default_factory=Counter)
    made: int = 0
    cached: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    originals: Counter[str] = field(default_factory=Counter)
    synthetic: Counter[str] = field(default_factory=Counter)
    gate: str = ""

    @property
    def manifest(self) -> Path:
        """The manifest's path."""
        return self.folder / MANIFEST

    def read(self, parts: Parts, plan: Plan) -> None:
        """Count what is there, in place of what was counted before."""
        try:
            self._read(parts, plan)
        except FileNotFoundError:
            if not parts.complete:
                raise
            self._read(parts, plan)  # meanwhile another process has completed the set

    def _read(self, parts: Parts, plan: Plan) -> None:
        tally = parts.tally()
        counts: Counter[tuple[str, str, str | None]] = Counter()
        for table in parts.tables(["status", "reason", "target"]):
            counts.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
        self.complete = parts.complete
        self.sources, self.originals = tally.sources, tally.originals
        self.made = self.cached = 0
        self.skipped, self.synthetic = Counter(), Counter()
        for (status, reason, target), count in counts.items():
            if status == "skipped" or target is None:
                self.skipped[reason] += count
                continue
            self.made += count * (status == "made")
            self.cached += count * (status == "cached")
            self.synthetic[plan.folders[Expression.parse(target)]] += count
