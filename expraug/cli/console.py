"""What the commands share: messages for failures, tables, and sizes in bytes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer


@contextmanager
def reported() -> Iterator[None]:
    """Turn expected failures into one line on stderr and exit code 1, warnings into lines."""
    from expraug.errors import ExpraugError

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say("warning:", str(message), "yellow")

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            if not sys.warnoptions:  # libraries that are imported on the way leave filters behind
                warnings.simplefilter("default", UserWarning)
            yield
    except KeyboardInterrupt:
        say("interrupted;", "what was made until now is kept", "red")
        raise typer.Exit(130) from None
    except (ExpraugError, OSError, ValueError) as error:
        say("error:", str(error).strip(), "red")
        raise typer.Exit(1) from None


def say(kind: str, message: str, colour: str) -> None:
    """Write a line to stderr; nothing in the message counts as markup or emoji."""
    typer.echo(f"{typer.style(kind, fg=colour)} {message}", err=True)


def print_table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for i, column in enumerate(columns):
        numeric = all(row[i][:1].isdigit() or not row[i] for row in rows)
        table.add_column(column, justify="right" if i and numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
