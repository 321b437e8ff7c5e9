"""Data sets of the sample faces, built once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_trees import TREES, Tree


@pytest.fixture(scope="session")
def tree_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tree]:
    """Return the data set in a layout of `TREES`; nobody may change it."""
    built: dict[str, Tree] = {}

    def tree_of(layout: str) -> Tree:
        if layout not in built:
            name, build = TREES[layout]
            root = tmp_path_factory.mktemp(layout)
            built[layout] = Tree(layout, name, root, build(root))
        return built[layout]

    return tree_of


@pytest.fixture
def own(tree_of: Callable[[str], Tree], tmp_path: Path) -> Callable[[str], Tree]:
    """Return a copy of the data set in a layout, to do harm to."""

    def own(layout: str) -> Tree:
        tree = tree_of(layout)
        root = tmp_path / layout
        shutil.copytree(tree.root, root)
        return tree._replace(root=root)

    return own


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest, tree_of: Callable[[str], Tree]) -> Tree:
    """A data set in each layout."""
    return tree_of(request.param)
