"""Pairs of the sample faces."""

from pathlib import Path

import pytest

from recipes.pairs import make_pairs


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is found of the faces, once for all."""
    return tmp_path_factory.mktemp("real_faces")


@pytest.fixture(scope="package")
def pairs_folder(face_sets: Path, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make_pairs` writes of the sample faces, whatever a classifier thinks of it."""
    folder = tmp_path_factory.mktemp("pairs")
    make_pairs.main(face_sets, folder, work, count=12, each=3, least=-1.0)
    return folder
