"""Recipes, to be imported and to be run."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "recipes"))


@pytest.fixture(scope="session")
def run_recipe() -> Callable[..., str]:
    """Run a recipe by its file name, with arguments, and return what it printed."""

    def run(script: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", REPOSITORY / "recipes" / script, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
