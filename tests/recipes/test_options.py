from __future__ import annotations

from pathlib import Path

import pytest

from recipes.training.options import read_yaml


@pytest.mark.parametrize("value", ["4e-4", "0.0004", "4.0e-4", "4E-4"])
def test_numbers_are_numbers_however_they_are_written(value: str, tmp_path: Path) -> None:
    file = tmp_path / "setting.yaml"
    file.write_text(f"lr: {value}\nsteps: 3\nname: e4\n")
    assert read_yaml(file, [f"options.lr={value}"]) == {
        "lr": 4e-4,
        "steps": 3,
        "name": "e4",
        "options": {"lr": 4e-4},
    }
