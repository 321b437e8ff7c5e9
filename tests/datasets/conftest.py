"""Faces in the rows of a `datasets.Dataset`."""

import pytest


@pytest.fixture(scope="session")
def rows(faces):
    """Three smiling and three neutral people, 64 px, as JPEG bytes."""
    datasets = pytest.importorskip("datasets")
    from labelled_rows import labelled_rows

    datasets.disable_progress_bars()
    yield labelled_rows(faces)
    datasets.enable_progress_bars()
