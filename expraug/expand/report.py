"""What an expansion did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from expraug.expand.layout import MANIFEST
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
        several: sources that hold several faces, of which the largest was used, by class folder.
        synthetic: synthetic faces by class folder.
        gate: what scored the synthetic faces, or why nothing did.
        notes: what a user should know of the set: where readers disagree on its class indices, and
            faces that were not found.
    """

    folder: Path
    complete: bool = False
    planned: Counter[str] = field(default_factory=Counter)
    made: int = 0
    cached: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    originals: Counter[str] = field(default_factory=Counter)
    several: Counter[str] = field(default_factory=Counter)
    synthetic: Counter[str] = field(default_factory=Counter)
    gate: str = ""
    notes: list[str] = field(default_factory=list)

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
        self.several = tally.several
        self.made = self.cached = 0
        self.skipped, self.synthetic = Counter(), Counter()
        for (status, reason, target), count in counts.items():
            if status == "skipped" or target is None:
                self.skipped[reason] += count
                continue
            self.made += count * (status == "made")
            self.cached += count * (status == "cached")
            self.synthetic[plan.folders[Expression.parse(target)]] += count

    def faces_notes(self, alignment: object) -> list[str]:
        """Return what is to be said of the faces that were found, and of those that were not.

        Args:
            alignment: how faces were looked for.
        """
        notes = []
        lost, of = self.skipped["no_face"], self.sources.total()
        if lost > MANY * of:
            other = "detect" if alignment == "crop" else "crop"
            about = "photographs" if other == "detect" else "face crops already"
            notes.append(
                f"no face was found in {lost:,} of {of:,} images with alignment={alignment!r}; if "
                f"they are {about}, use alignment={other!r} (--alignment {other})."
            )
        if several := self.several.total():
            notes.append(
                f"{several:,} of {of:,} images hold several faces: the largest was changed, the "
                f"others stayed as they are (column `faces` of the manifest)."
            )
        return notes


MANY = 0.1
"""Share of images without a face from which on the other alignment is suggested."""
