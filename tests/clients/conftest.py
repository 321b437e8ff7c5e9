"""Sample faces as an image folder, small, and nothing from the network."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

FACES = Path(__file__).parents[2] / "examples" / "faces"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image folder of six people, each neutral and smiling, 128 px."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    root = tmp_path / "faces"
    for expression in ("happy", "neutral"):
        (root / expression).mkdir(parents=True)
        for file in sorted((FACES / expression).iterdir())[:6]:
            Image.open(file).resize((128, 128)).save(root / expression / f"{file.stem}.png")
    return root
