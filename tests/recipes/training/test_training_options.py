"""Settings from YAML files and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from recipes.training.options import load_settings


@dataclass(frozen=True)
class Options:
    lr: float = 1.0
    amp: bool = True


@dataclass(frozen=True)
class Setting:
    size: int = 64
    channels: tuple[int, ...] = (8, 4)
    kind: Literal["by", "to"] = "by"
    arguments: dict[str, Any] = field(default_factory=dict)
    options: Options = field(default_factory=Options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("size: 32\noptions: {lr: 0.5, amp: false}\n")
    (tmp_path / "own.yaml").write_text("base: base.yaml\nkind: to\noptions: {lr: 4e-4}\n")
    return tmp_path / "own.yaml"


@pytest.mark.parametrize("value", ["4e-4", "0.0004", "4.0e-4", "4E-4"])
def test_numbers_are_numbers_however_they_are_written(value: str, file: Path) -> None:
    file.write_text(f"options: {{lr: {value}}}\n")
    assert load_settings(Setting, file).options.lr == 4e-4
    file.write_text("")
    assert load_settings(Setting, file, [f"options.lr={value}"]).options.lr == 4e-4


def test_a_file_changes_its_base_and_overrides_change_both(file: Path) -> None:
    overrides = ["channels=[16, 8, 4]", "options.amp=true", "arguments.depth=3"]
    setting = load_settings(Setting, file, overrides)
    assert setting == Setting(32, (16, 8, 4), "to", {"depth": 3}, Options(4e-4, True))
    assert load_settings(Setting, file) == Setting(32, (8, 4), "to", {}, Options(4e-4, False))


def test_an_unknown_option_is_refused_with_those_there_are(file: Path) -> None:
    with pytest.raises(ValueError, match=r"own\.yaml: no option 'colour'; there are size"):
        load_settings(Setting, file, ["colour=1"])
    with pytest.raises(ValueError, match=r"no option 'rate' in options; there are lr, amp$"):
        load_settings(Setting, file, ["options.rate=1"])
    file.write_text("options: {rate: 1}\n")
    with pytest.raises(ValueError, match=r"no option 'rate' in options"):
        load_settings(Setting, file)


@pytest.mark.parametrize(
    ("override", "told"),
    [("size=large", "size: .*'large'"), ("kind=of", "kind: .*'of'"), ("options.lr=[1]", "lr")],
)
def test_a_value_of_another_type_is_refused(override: str, told: str, file: Path) -> None:
    with pytest.raises(ValueError, match=rf"own\.yaml: option .*{told}"):
        load_settings(Setting, file, [override])


def test_a_file_that_is_no_mapping_is_refused(file: Path) -> None:
    file.write_text("[1, 2]\n")
    with pytest.raises(ValueError, match="no mapping"):
        load_settings(Setting, file)
