"""What a measure gives back: figures, as lines of a table, as JSON, as a piece of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from expraug.evaluate.bootstrap import Estimate

Headline = dict[tuple[str, str], Estimate]
"""Figures by name and expression; "" stands for all expressions together."""

COLUMNS = ("measure", "expression", "value [95 %]", "beside", "n")


class Line(NamedTuple):
    """One line of the table; all text."""

    measure: str
    expression: str
    value: str
    beside: str = ""
    n: str = ""


def named_once(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines, each measure named in its first one."""
    last = ""
    for line in lines:
        yield line._replace(measure="") if line.measure == last else line
        last = line.measure


@dataclass
class Result:
    """What one measure found; the base of each measure's own dataclass."""

    def lines(self) -> list[Line]:
        """Return the figures as lines of the table."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for the JSON; {} if they do not belong there."""
        return asdict(self)

    def headline(self) -> Headline:
        """Return the few figures that a table of synthesizers shows."""
        return {}

    def html(self) -> str:
        """Return what the page shows below the table; "" if nothing."""
        return ""

    def caption(self) -> str:
        """Return what it was measured with, for the table's caption; "" if that goes without
        saying."""
        return ""


def headline_of(
    name: str, targets: Mapping[str, Estimate], together: Estimate | None = None
) -> Headline:
    """Return a figure of all expressions together, where it is known, and of each.

    Args:
        name: of the figure.
        targets: by target.
        together: of all.
    """
    found = {(name, ""): together} if together is not None else {}
    return found | {(name, target): e for target, e in targets.items()}


def headline_with_mean(name: str, targets: Mapping[str, Estimate]) -> Headline:
    """Return a figure of each expression, and their mean for all together; {} of none."""
    return headline_of(name, targets, Estimate.mean(targets.values()) if targets else None)
