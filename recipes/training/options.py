"""Settings of a recipe: a dataclass, filled from a YAML file and from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

T = TypeVar("T")


def load_settings(cls: type[T], file: Path, overrides: Sequence[str] = ()) -> T:
    """Return a dataclass as a YAML file has it, with overrides on top.

    A file with `base: OTHER.yaml`, a path beside it, says only what it changes in that one.

    Args:
        cls: a dataclass all of whose fields have defaults; some may be dataclasses themselves.
        file: the YAML file.
        overrides: as "steps=800", or in a part of the settings "options.lr=4e-4".

    Raises:
        ValueError: an option that there is not, or a value of another type; the message names the
            file, the option and, for the former, those there are.
    """
    own = OmegaConf.from_dotlist(list(overrides))
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), *_with_bases(file), own)
        return cast(T, OmegaConf.to_object(merged))
    except ConfigKeyError as error:
        *parts, name = str(error.full_key).split(".")
        known = ", ".join(_names(cls, parts))
        raise ValueError(
            f"{file}: no option {name!r}{' in ' + '.'.join(parts) if parts else ''}; "
            f"there are {known}"
        ) from error
    except OmegaConfBaseException as error:
        told = str(error).partition("\n")[0]
        raise ValueError(f"{file}: option {error.full_key}: {told}") from error


def _with_bases(file: Path) -> Iterator[DictConfig]:
    """Yield the files that a file builds on, and then the file itself."""
    data = OmegaConf.load(file)
    if not isinstance(data, DictConfig):
        raise ValueError(f"{file}: no mapping of options to values")
    base = data.pop("base", None)
    if base is not None:
        yield from _with_bases(file.parent / base)
    yield data


def _names(cls: Any, parts: Sequence[str]) -> list[str]:
    """Return the options of a dataclass, or of a part of it."""
    value = cls()
    for part in parts:
        value = getattr(value, part)
    return [f.name for f in fields(value)] if is_dataclass(value) else []
