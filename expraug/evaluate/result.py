"""What a measure gives back: figures, as lines of a table, as JSON, as a piece of a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from expraug.evaluate.bootstrap import Estimate

COLUMNS = ("measure", "expression", "value [95 %]", "beside", "n")


class Line(NamedTuple):
    """One line of the table; all text."""

    measure: str
    expression: str
    value: str
    beside: str = ""
    n: str = ""


@dataclass
class Result:
    """What one measure found; the base of each measure's own dataclass."""

    def lines(self) -> list[Line]:
        """Return the figures as lines of the table."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for the JSON; {} if they do not belong there."""
        return asdict(self)

    def headline(self) -> dict[tuple[str, str], Estimate]:
        """Return the few figures that a table of synthesizers shows.

        Returns:
            By figure and expression; "" for all expressions together.
        """
        return {}

    def html(self) -> str:
        """Return what the page shows below the table; "" if nothing."""
        return ""

    def caption(self) -> str:
        """Return what it was measured with, for the table's caption; "" if that goes without
        saying."""
        return ""
