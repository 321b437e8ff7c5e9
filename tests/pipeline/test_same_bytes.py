"""The same image, request and version give the same bytes, however the work is spread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from expraug import list_synthesizers

WORKER = Path(__file__).with_name("bytes_worker.py")
ROOT = Path(__file__).parents[2]


def run(faces, threads, how, names):
    """Return what the worker tells of faces made with so many threads for each operation."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(WORKER), str(faces), how, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(900)
def test_threads_batches_workers_and_python_threads(faces):
    names = list_synthesizers(pretrained=True)
    told = {1: run(faces, 1, "one", names), 4: run(faces, 4, "all", names)}
    for name in names:
        expected = told[1]["digests"][name]
        faces_made, clips = expected["batches of 8"], expected["clips"]
        assert len(set(faces_made)) == len(faces_made)
        for threads, found in told.items():
            for how, digests in found["digests"][name].items():
                assert digests == (clips if how == "clips" else faces_made), (name, threads, how)
    assert told[1]["scores"] == told[4]["scores"]
