"""An expansion in several processes comes out as in one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from expraug.expand import expand
from expraug.expand.layout import WORK
from expraug.expand.processes import WorkerDiedError

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import QUICK, contents, write_faces

OPTIONS: dict[str, Any] = QUICK | {"targets": ["happy", "neutral"], "chunk_size": 4}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of 30 faces and its expansion."""
    root = tmp_path_factory.mktemp("whole")
    write_faces(root / "set", 30)
    expand(root / "set", root / "out", **OPTIONS)
    return root


def test_processes(whole: Path, tmp_path: Path) -> None:
    report = expand(whole / "set", tmp_path, processes=2, **OPTIONS)
    assert report.made == 30
    assert contents(tmp_path) == contents(whole / "out")


def test_a_worker_that_is_killed(whole: Path, tmp_path: Path) -> None:
    big = write_faces(tmp_path / "set", 80)
    killed = []

    def kill() -> None:
        parts = tmp_path / "out" / "happy" / WORK / "parts"
        while not (parts.is_dir() and any(parts.iterdir())):
            time.sleep(0.01)
        children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        for pid in " ".join(path.read_text() for path in children).split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes() and not killed:
                os.kill(int(pid), signal.SIGKILL)
                killed.append(pid)

    if not Path("/proc/self/task").is_dir():
        pytest.skip("finds its child processes through /proc")
    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(WorkerDiedError, match="the same again"):
        expand(big, tmp_path / "out", processes=2, **OPTIONS)
    thread.join()
    expand(big, tmp_path / "out", **OPTIONS)
    expand(big, tmp_path / "whole", **OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
