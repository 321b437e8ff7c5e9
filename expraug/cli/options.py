"""Command-line parameters from an options class, so that no list of options stands twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from enum import Enum
from typing import Annotated, Any

import typer


def parameter(option: Field[Any]) -> inspect.Parameter:
    """Return the parameter of a command that an option becomes."""
    cli = option.metadata["cli"]
    kind, default = _kind(option), option.default
    flag = cli.get("flag", "--" + option.name.replace("_", "-"))
    shown = {name: cli[name] for name in ("min", "max", "metavar") if name in cli}
    if isinstance(kind, type) and issubclass(kind, Enum):
        default = kind(default)
    elif "parse" in cli:
        default = cli.get("shown")
    show = default is not None and default is not False
    told = typer.Option(flag, help=option.metadata["text"], show_default=show, **shown)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if default is None else kind, told],
    )


def _kind(option: Field[Any]) -> Any:
    cli, written = option.metadata["cli"], str(option.type)
    if "choices" in cli:
        return Enum(option.name, {c: c for c in cli["choices"]}, type=str)
    if written == "bool" or "/--no-" in cli.get("flag", ""):
        return bool
    return int if "int" in written.split(" | ") and "parse" not in cli else str


def value_of(option: Field[Any], given: Any) -> Any:
    """Return the value of an option from what the command line gave."""
    parse = option.metadata["cli"].get("parse")
    if isinstance(given, Enum):
        given = given.value
    if parse is None or (given is None and option.default is None):
        return given
    return parse(given)


def options_of(kind: type[Any], only: Sequence[str] | None = None) -> list[Field[Any]]:
    """Return the options of a class that the command line has."""
    shown = [f for f in fields(kind) if not f.metadata["cli"].get("hidden")]
    return shown if only is None else [f for f in shown if f.name in only]


def with_options(
    kind: type[Any], only: Sequence[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: give a command the options of a class in place of its `**options`.

    The command is called with their values.

    Args:
        kind: the class.
        only: names of the options that the command takes; None: all.
    """
    taken = options_of(kind, only)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        own += [parameter(option) for option in taken]

        def run(**given: Any) -> None:
            from expraug.cli.console import reported

            with reported():
                values = {o.name: value_of(o, given.pop(o.name)) for o in taken}
                command(**given, **values)

        run.__doc__ = command.__doc__
        run.__name__ = command.__name__
        run.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in own}
        return run

    return decorate
