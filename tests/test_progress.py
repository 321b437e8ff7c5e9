"""Progress where nobody sits at a terminal."""

from __future__ import annotations

import pytest

from expraug import progress


def test_lines_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.progress_bar() as show:
        show("finding faces", 1, 10)
        now = 131.0
        show("making happy", 5, 10)
        show("making sad", 6, 10)
        now = 170.0
        show("following the face", 7, 0)
    told = capsys.readouterr()
    assert told.err.splitlines() == ["50 %: making happy", "following the face"]
    assert told.out == ""
