"""Every example runs as it is."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("script", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_example(script, tmp_path):
    if "lightning" in script and find_spec("lightning") is None:
        pytest.skip("needs Lightning: pip install lightning")
    run = subprocess.run(
        [sys.executable, EXAMPLES / script], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {
            "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]),
        },
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_there_are_samples():
    for expression in ("neutral", "happy"):
        assert len(list((EXAMPLES / "faces" / expression).glob("*.jpg"))) >= 8
