"""Settings: which data, and how it is trained on, read from YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recipes.fer.drawing import Mixing
from recipes.fer.fold import Cut
from recipes.fer.gating import GateOptions
from recipes.fer.requests import Plan
from recipes.fer.training import Recipe
from recipes.training.options import load_settings


@dataclass(frozen=True)
class Setting:
    """One question, and how it is asked.

    Args:
        name: in results; that of the file, if it gives none.
        cut, recipe, plan, gate, mixing: see there.
        condition: fields of `Condition` to set for every condition, say how strongly it mixes.
    """

    name: str = ""
    cut: Cut = field(default_factory=Cut)
    recipe: Recipe = field(default_factory=Recipe)
    plan: Plan = field(default_factory=Plan)
    gate: GateOptions = field(default_factory=GateOptions)
    mixing: Mixing = field(default_factory=Mixing)
    condition: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, changes: Sequence[str] = ()) -> Setting:
        """Read a YAML file, with changes such as "mixing.share=0.5" on top.

        Raises:
            ValueError: as `load_settings` does.
        """
        setting = load_settings(cls, file, changes)
        return setting if setting.name else replace(setting, name=file.stem)
