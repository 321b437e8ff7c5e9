"""Doctests of the package: `pytest --doctest-modules expraug`, from here."""

import os
import re

import pytest
from _pytest.doctest import DoctestItem

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip an example whose libraries are not installed."""
    if not isinstance(item, DoctestItem):
        return
    for example in item.dtest.examples:
        for library in re.findall(r"^(?:import|from) (\w+)", example.source, re.MULTILINE):
            pytest.importorskip(library)
