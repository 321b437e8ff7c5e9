from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from expraug.expand import DestinationError
from expraug.expand.layout import WORK
from expraug.expand.manifest import Row, Tally, read_tally
from expraug.expand.parts import Parts


def row(number: int) -> Row:
    return Row(
        **{"file": f"happy/{number}.png", "source": f"{number}", "source_class": "neutral"},
        **{"identity": None, "source_digest": "0", "synthesizer": "pixel", "fingerprint": "p"},
        **{"target": "happy", "intensity": 1.0, "variant": 0, "seed": 0, "status": "made"},
    )


def tally(count: int) -> Tally:
    found = Tally()
    found.sources["neutral"] = count
    return found


def sources(parts: Parts) -> list[str]:
    return [source for table in parts.tables() for source in table["source"].to_pylist()]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Three chunks, all done."""
    parts = Parts(tmp_path, tmp_path / "happy" / WORK, 3, {"seed": 0})
    assert parts.begin(range(3)) == [0, 1, 2]
    for chunk in (2, 0, 1):
        parts.commit(chunk, [row(10 * chunk + i) for i in range(chunk)], tally(chunk))
    return parts


def test_parts_become_a_manifest_in_order(parts: Parts) -> None:
    described = []
    assert not parts.complete
    assert sources(parts) == ["10", "20", "21"]
    assert parts.finish(lambda: described.append(parts.complete))
    assert described == [False]  # what is described is there before the set counts as complete
    assert parts.complete
    assert sources(parts) == ["10", "20", "21"]
    assert read_tally(parts.manifest).sources == {"neutral": 3}
    assert {path.name for path in parts.folder.iterdir()} == {"manifest.pq", "happy"}
    assert not any((parts.folder / "happy").iterdir())
    assert parts.begin(range(3)) == []


def test_two_that_finish_at_once(parts: Parts) -> None:
    other = Parts(parts.folder, parts.work, parts.chunks, parts.settings)
    assert parts.finish(lambda: other.finish(lambda: None) or None)
    assert sources(parts) == ["10", "20", "21"]
    assert not parts.work.exists()
    assert parts.finish(lambda: None)


def test_what_a_kill_left_behind_is_cleared(parts: Parts) -> None:
    (parts.staging / "half.tar").write_bytes(b"x")
    parts.finish(lambda: None)
    parts.staging.mkdir(parents=True)  # as if killed before it had cleared away
    assert parts.begin(range(3)) == []
    parts.finish(lambda: None)
    assert not parts.work.exists()


def test_an_error_while_describing_completes_nothing(parts: Parts) -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        parts.finish(fail)
    assert not parts.complete
    assert parts.finish(lambda: None)


@pytest.mark.parametrize("there", [{"seed": 1}, {"seed": 0, "more": 1}, {}])
def test_other_settings(parts: Parts, there: dict[str, Any]) -> None:
    for _ in range(2):  # unfinished, then finished
        Parts(parts.folder, parts.folder / "elsewhere" / WORK, 3, {"seed": 0}).check()
        with pytest.raises(DestinationError, match="another"):
            Parts(parts.folder, parts.work, 3, there).check()
        parts.finish(lambda: None)


def test_attempts_are_counted_from_begin(parts: Parts) -> None:
    assert [parts.attempt(1), parts.attempt(1), parts.attempt(2)] == [1, 2, 1]
    parts.begin([1])
    assert [parts.attempt(1), parts.attempt(2)] == [1, 2]
