"""Options of a recipe: read from YAML, changed on the command line, checked by a dataclass."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """Reads 4e-4 as a number, as YAML 1.2 has it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def read_yaml(file: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Return a YAML file on top of the one that its `base` names, with changes on top of both.

    Args:
        changes: as "steps=800", or in a part of the file "mixing.share=0.5".
    """
    data = _load(file)
    for change in changes:
        path, _, value = change.partition("=")
        *part, name = path.split(".", 1)
        (data.setdefault(part[0], {}) if part else data)[name] = yaml.load(value, _Loader)
    return data


def _load(file: Path) -> dict[str, Any]:
    own = yaml.load(file.read_text(), _Loader) or {}
    base = own.pop("base", None)
    data = _load(file.parent / base) if base else {}
    for part, values in own.items():
        data[part] = data[part] | values if isinstance(data.get(part), dict) else values
    return data


def fill(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return a dataclass with these values; lists become tuples.

    Raises:
        ValueError: an unknown option; the message says `where`, and lists those there are.
    """
    known = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for name in values:
        if name not in known:
            raise ValueError(f"{where}: no option {name!r}; there are {', '.join(known)}")
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**frozen)


def read_setting(kind: type[T], options: type, file: Path, changes: Sequence[str] = ()) -> T:
    """Return a dataclass as a YAML file has it, whose `options` are a dataclass of their own.

    Args:
        kind: the class of the whole.
        options: that of its field `options`.
        file, changes: as `read_yaml` takes them.

    Raises:
        ValueError: an unknown option.
    """
    data = read_yaml(file, changes)
    own = fill(options, data.pop("options", {}), "options")
    return fill(kind, data | {"options": own}, str(file))
