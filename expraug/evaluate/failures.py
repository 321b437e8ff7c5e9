"""Failures: of which images nothing is made, and why."""

from __future__ import annotations

from dataclasses import dataclass

from expraug.evaluate.context import Context
from expraug.evaluate.result import Line, Result

NAME = "failures"


@dataclass
class Failures(Result):
    """What was lost on the way, by reason; "no_face", "unchanged" or "not_finite", say.

    Args:
        found: faces in the data.
        lost: images of the data that were left out.
        asked: by target, how many synthetics were asked for at full intensity.
        failed: by target, how many of these were not made. They count as not recognised.
    """

    found: int
    lost: dict[str, int]
    asked: dict[str, int]
    failed: dict[str, dict[str, int]]

    def lines(self) -> list[Line]:
        total = self.found + sum(self.lost.values())
        lines = [Line("images used", "", f"{self.found / total:.3f}", _told(self.lost), str(total))]
        for target, asked in self.asked.items():
            made = asked - sum(self.failed[target].values())
            share = f"{made / asked:.3f}"
            lines.append(Line("made", target, share, _told(self.failed[target]), str(asked)))
        return lines


def measure(context: Context) -> Failures:
    """Count."""
    return Failures(
        found=len(context.data),
        lost=dict(context.data.lost),
        asked={str(t): len(context.sources(t)) for t in context.targets},
        failed={target: dict(reasons) for target, reasons in context.failures().items()},
    )


def _told(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none lost"
