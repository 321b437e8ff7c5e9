"""Options of a command from a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from expraug.cli.options import options_of
from expraug.expand.options import ExpandOptions


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a file the defaults of `expand`; what the command line says counts first.

    Raises:
        typer.BadParameter: the file cannot be read, or names an option that there is not.
    """
    if path is None:
        return None
    names = dict[str, str]()
    for option in options_of(ExpandOptions):
        flag = option.metadata["cli"].get("flag", "--" + option.name).split("/")[0]
        names |= {option.name: option.name, flag[2:].replace("-", "_"): option.name}
    values = _values(path)
    unknown = [str(name) for name in values if str(name).replace("-", "_") not in names]
    if unknown:
        raise typer.BadParameter(
            f"{path}: `expand` has no option {', '.join(map(repr, unknown))}; there are "
            f"{', '.join(sorted(o.name.replace('_', '-') for o in options_of(ExpandOptions)))}"
        )
    found = {names[str(name).replace("-", "_")]: value for name, value in values.items()}
    context.default_map = {name: _text(name, value, path) for name, value in found.items()}
    return path


def _values(path: Path) -> dict[Any, Any]:
    try:
        data = path.read_bytes()
        values = _toml(data) if path.suffix.lower() == ".toml" else _yaml(data)
    except (OSError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path}: cannot be read as options ({error!s:.300})") from error
    if not isinstance(values, dict):
        raise typer.BadParameter(f"{path}: options have names, as per-class: 500")
    return values


def _toml(data: bytes) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(data.decode())


def _yaml(data: bytes) -> Any:
    import yaml

    try:
        # a few lines of references can stand for gigabytes
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(data)):
            raise ValueError("references (&name, *name) are not taken")
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _text(name: str, value: Any, path: Path) -> Any:
    """Return a value as the command line would have it: lists with commas, mappings with "="."""
    if isinstance(value, dict):
        pairs = [(str(k), "none" if v is None else str(v)) for k, v in value.items()]
        return _text(name, ["=".join(pair) for pair in pairs], path)
    if isinstance(value, list):
        words = [str(word) for word in value]
        if any("," in word for word in words):
            raise typer.BadParameter(f"{path}: {name}: names with a comma cannot be given here")
        return ",".join(words)
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    raise typer.BadParameter(f"{path}: {name}: {value!r} is no value of an option")
