"""Settings: which data, and how it is trained on, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fer.drawing import Mixing
from fer.fold import Cut
from fer.gating import GateOptions
from fer.synthetics import Plan
from fer.training import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One question, and how it is asked.

    Args:
        name: in results.
        cut, recipe, plan, gate, mixing: see there.
        arm: fields of `Arm` to set for every arm, say how strongly it mixes.
    """

    name: str
    cut: Cut = field(default_factory=Cut)
    recipe: Recipe = field(default_factory=Recipe)
    plan: Plan = field(default_factory=Plan)
    gate: GateOptions = field(default_factory=GateOptions)
    mixing: Mixing = field(default_factory=Mixing)
    arm: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, changes: Sequence[str] = ()) -> Setting:
        """Read a YAML file, with changes such as "mixing.share=0.5" on top.

        Raises:
            ValueError: an unknown option; the message lists those there are.
        """
        data = _load(file)
        for change in changes:
            path, _, value = change.partition("=")
            part, _, name = path.partition(".")
            data.setdefault(part, {})[name] = yaml.safe_load(value)
        data.setdefault("name", file.stem)
        parts = {"cut": Cut, "recipe": Recipe, "plan": Plan, "gate": GateOptions, "mixing": Mixing}
        made = {key: _fill(kind, data.pop(key, {}), key) for key, kind in parts.items()}
        return _fill(cls, data | made, str(file))


def _load(file: Path) -> dict[str, Any]:
    """Return a YAML file on top of the one that its `base` names."""
    own = yaml.safe_load(file.read_text()) or {}
    base = own.pop("base", None)
    data = _load(file.parent / base) if base else {}
    for part, values in own.items():
        data[part] = data[part] | values if isinstance(data.get(part), dict) else values
    return data


def _fill(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    known = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for name in values:
        if name not in known:
            raise ValueError(f"{where}: no option {name!r}; there are {', '.join(known)}")
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**frozen)
