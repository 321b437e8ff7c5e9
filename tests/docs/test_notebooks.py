"""The notebooks run as they are, and are kept with small outputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes, outputs included


@pytest.mark.parametrize("file", NOTEBOOKS, ids=[file.stem for file in NOTEBOOKS])
def test_it_is_kept_executed_and_small(file: Path) -> None:
    cells = json.loads(file.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(out["output_type"] == "error" for cell in code for out in cell["outputs"])
    assert sum(bool(cell["outputs"]) for cell in code) >= 3
    assert file.stat().st_size < LARGEST


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", NOTEBOOKS, ids=[file.stem for file in NOTEBOOKS])
def test_it_runs(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    sys.path.insert(0, str(file.parent))
    from execute import executed

    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    folder = tmp_path / "docs" / "notebooks"  # they look for the sample faces two folders up
    folder.mkdir(parents=True)
    made = executed(file, folder)
    printed = [
        "".join(output.get("text", ""))
        for cell in made.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert any("made" in text or "faces became" in text for text in printed)


def test_there_are_two() -> None:
    assert len(NOTEBOOKS) == 2
