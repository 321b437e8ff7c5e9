"""The same image, request and version give the same bytes, however the work is spread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bytes_worker import images, scores, ways

from expraug import list_synthesizers

WORKER = Path(__file__).with_name("bytes_worker.py")
ROOT = Path(__file__).parents[2]


def run(faces, names):
    """Return what the worker tells of faces made in every way, with four threads for operations."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(WORKER), str(faces), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(900)
def test_threads_batches_workers_and_python_threads(faces):
    names = list_synthesizers(pretrained=True)
    here = images(faces)  # with one thread, as all tests are
    one = {"digests": {name: ways(name, here, False) for name in names}, "scores": scores(here)}
    told = {1: one, 4: run(faces, names)}
    for name in names:
        expected = told[1]["digests"][name]
        faces_made, clips = expected["batches of 8"], expected["clips"]
        assert len(set(faces_made)) == len(faces_made)
        for threads, found in told.items():
            for how, digests in found["digests"][name].items():
                assert digests == (clips if how == "clips" else faces_made), (name, threads, how)
    assert told[1]["scores"] == told[4]["scores"]
