"""Files stay short enough to be read at once."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
MOST = 400
REASON = f"# over {MOST} lines: "
"""How a line among the first ten begins that says why a file is longer."""


def too_long(file: Path) -> bool:
    lines = file.read_text().splitlines()
    return len(lines) > MOST and not any(
        line.lower().startswith(REASON) and len(line) > len(REASON) for line in lines[:10]
    )


def test_no_file_is_long_without_a_reason() -> None:
    files = [f for room in ("expraug", "recipes") for f in (REPOSITORY / room).rglob("*.py")]
    assert len(files) > 100
    assert [str(f.relative_to(REPOSITORY)) for f in files if too_long(f)] == []


def test_a_reason_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "long.py"
    file.write_text("x = 1\n" * MOST)
    assert not too_long(file)
    file.write_text("x = 1\n" * (MOST + 1))
    assert too_long(file)
    file.write_text("# Over 400 lines: one table, which nobody reads\n" + "x = 1\n" * MOST)
    assert not too_long(file)
    file.write_text("# Over 400 lines: \n" + "x = 1\n" * MOST)
    assert too_long(file)
