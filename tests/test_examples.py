"""Every example runs as it is."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


# the one for Lightning: see tests/clients; the one for Ray last, since what it starts lives on
SCRIPTS = sorted({p.name for p in EXAMPLES.glob("*.py")} - {"train_lightning.py"},
                 key=lambda name: ("ray" in name, name))  # fmt: skip

RUN = """
import contextlib, io, json, runpy, sys, traceback

told = {}
for script in sys.argv[1:]:
    printed, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(script, run_name="__main__")
    except BaseException:
        error = traceback.format_exc()
    told[script.rpartition("/")[2]] = printed.getvalue(), error
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each example prints, and how it fails; one process runs them all."""
    folder = tmp_path_factory.mktemp("examples")
    run = subprocess.run(
        [sys.executable, "-c", RUN, *(EXAMPLES / script for script in SCRIPTS)],
        cwd=folder, capture_output=True, text=True,
        env=os.environ | {
            "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]),
        },
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("script", SCRIPTS)
def test_example(script, told):
    if "ray" in script:
        pytest.importorskip("ray")
    printed, error = told[script]
    assert not error, error
    assert printed.strip()


def test_there_are_samples():
    for expression in ("neutral", "happy"):
        assert len(list((EXAMPLES / "faces" / expression).glob("*.jpg"))) >= 8


def test_the_first_lines_of_the_readme(neutral_images, tmp_path, monkeypatch):
    """They ask no network for anything."""
    lines = (EXAMPLES.parent / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(lines.strip().splitlines()) == 4, "three lines, and an empty one"
    Image.fromarray(neutral_images[0]).save(tmp_path / "face.jpg", quality=95)
    monkeypatch.chdir(tmp_path)

    def refused(*args, **more):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    variables = {}
    exec(lines, variables)
    assert variables["smiling"].size == (256, 256)
    made = np.asarray(Image.open("smiling.jpg")).astype(int)
    assert np.abs(made - np.asarray(Image.open("face.jpg"))).max() > 40
