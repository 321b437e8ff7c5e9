"""The Ray engine, on a Ray of two CPUs that is started for this file."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")


from expraug.expand import expand  # noqa: E402
from expraug.expand.layout import WORK  # noqa: E402
from expraug.expand.parts import Parts  # noqa: E402
from expraug.expand.processes import WorkerDiedError  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
from expanded_sets import QUICK, contents, write_faces  # noqa: E402

from recipes.stress.ray_worker import actors  # noqa: E402

OPTIONS: dict[str, Any] = QUICK | {"targets": ["happy", "neutral"], "chunk_size": 4}
ON_RAY: dict[str, Any] = OPTIONS | {"engine": "ray", "processes": 1}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # workers import the tests' own modules, too
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def test_the_set_is_that_of_the_local_engine(tmp_path: Path) -> None:
    write_faces(tmp_path / "set", 20)
    options = OPTIONS | {"with_originals": True, "write": "parquet"}
    there = expand(tmp_path / "set", tmp_path / "ray", engine="ray", processes=2, **options)
    here = expand(tmp_path / "set", tmp_path / "here", **options)
    assert there.complete
    assert there.synthetic == here.synthetic
    assert contents(there.folder) == contents(here.folder)
    assert ray.is_initialized()  # it was ours, not the engine's


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers through /proc")
def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    write_faces(tmp_path / "set", 48, side=128)
    killed: list[int] = []

    def kill_in_the_middle() -> None:
        parts = tmp_path / "ray" / "happy" / WORK / "parts"
        while not (parts.is_dir() and any(parts.iterdir())):
            time.sleep(0.01)
        killed.extend(actors())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_in_the_middle)
    thread.start()
    expand(tmp_path / "set", tmp_path / "ray", **ON_RAY)
    thread.join()
    assert killed
    assert not set(killed) & set(actors())
    expand(tmp_path / "set", tmp_path / "here", **OPTIONS)
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


def test_failures_keep_their_class(tmp_path: Path) -> None:
    write_faces(tmp_path / "set", 4)
    (tmp_path / "out" / "neutral" / "0000__pixel_1.00_0.png").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        expand(tmp_path / "set", tmp_path / "out", **ON_RAY)


def test_a_chunk_that_kills_its_worker_every_time(tmp_path: Path) -> None:
    write_faces(tmp_path / "set", 4)
    begin = Parts.begin

    def tried_often(self: Parts, chunks: Any) -> list[int]:
        todo = begin(self, chunks)
        for _ in range(6):
            self.attempt(0)
        return todo

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "begin", tried_often)
        with pytest.raises(WorkerDiedError, match=r"sources 0 to 3 .* 6 times"):
            expand(tmp_path / "set", tmp_path / "out", **ON_RAY)
    assert expand(tmp_path / "set", tmp_path / "out", **OPTIONS).made == 4
