"""An expanded set of real faces."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from expraug.expand import Report, expand

FACES = Path(__file__).parents[2] / "examples" / "faces"


@pytest.fixture(scope="session")
def expanded(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Happy and neutral faces of the samples, made of each other; two people of each."""
    root = tmp_path_factory.mktemp("review")
    for name in ("neutral", "happy"):
        (root / "set" / name).mkdir(parents=True)
        for path in sorted((FACES / name).iterdir())[:3]:
            shutil.copy(path, root / "set" / name)
    return expand(root / "set", root / "out", intensity=[0.5, 1.0])
