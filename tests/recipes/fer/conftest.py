"""A few faces as the tables take them."""

from pathlib import Path

import pytest
from table_faces import Packed, write_pack


@pytest.fixture(scope="session")
def packed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return write_pack(faces, tmp_path_factory.mktemp("pack"))
