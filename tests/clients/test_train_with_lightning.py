"""Lightning: `examples/train_lightning.py`, which warms in `prepare_data`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
REPOSITORY = Path(__file__).parents[2]


def test_the_example_trains(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / "train_lightning.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    samples, steps = (int(word) for word in done.stdout.split() if word.isdigit())
    assert samples == 40
    assert steps == 2 * 5  # two epochs of 40 samples in batches of 8
