"""What a card is sent, small: of the sample faces, made by what makes the real pack."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_faces import write_pack

from recipes.gpu import systems
from recipes.real_faces import FILES, LFW, LONDON


@pytest.fixture(scope="session")
def smiling_sets(face_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets with LFW's faces, some of which smile, for London's: these have open mouths."""
    root = tmp_path_factory.mktemp("smiling sets")
    for files in FILES.values():
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((face_sets / name).read_bytes())
    rows = pq.read_table(face_sets / FILES[LFW][0]).to_pylist()
    pq.write_table(pa.Table.from_pylist(rows[5:15]), root / FILES[LONDON][0])
    return root


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
