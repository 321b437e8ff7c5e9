"""What a card is sent, small: of the sample faces, made by what makes the real pack."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_faces import write_pack

from recipes.gpu import systems


@pytest.fixture(scope="session")
def pack(
    smiling_sets: Path,
    faces: Path,
    pairs_folder: Path,
    classifier_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder that travels, for the steps that need data."""
    folder = tmp_path_factory.mktemp("gpu pack")
    real_work, nets = tmp_path_factory.mktemp("real faces"), [classifier_folder] * 2
    systems.pack(smiling_sets, pairs_folder, nets, folder / "systems", real_work, 12, mouths=30)
    (folder / "tables").mkdir()
    write_pack(faces, folder / "tables")
    return folder
