"""Weights that the wheel leaves out are found in the package `expraug_weights`, or asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import expraug
from expraug import pretrained
from expraug.errors import MissingWeightsError
from expraug.pretrained import EMBEDDED, embedded_weights, find_weights


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights as the wheel of expraug has it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for one in EMBEDDED.iterdir():
        if one.name not in pretrained._MORE:
            (folder / one.name).symlink_to(one)
    monkeypatch.setattr(pretrained, "EMBEDDED", folder)
    return folder


@pytest.fixture
def more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of the others, installed."""
    package = tmp_path / "installed" / "expraug_weights"
    package.mkdir(parents=True)
    for name in pretrained._MORE:
        (package / name).symlink_to(EMBEDDED / name)
    monkeypatch.syspath_prepend(package.parent)
    return package


def test_the_default_is_in_the_core(core: Path) -> None:
    assert expraug.create_synthesizer().name == "transfer"
    assert expraug.list_synthesizers(pretrained=True) == ["pixel", "transfer", "unet_cgan"]


@pytest.mark.parametrize("name", pretrained._MORE)
def test_without_the_package_the_message_says_what_to_install(core: Path, name: str) -> None:
    with pytest.raises(MissingWeightsError, match=r"pip install 'expraug\[weights\]'"):
        expraug.create_synthesizer(name)


def test_with_the_package_all_are_there(more: Path, core: Path) -> None:
    assert set(pretrained._MORE) < set(expraug.list_synthesizers(pretrained=True))
    assert find_weights("fevgan") == more / "fevgan"
    assert expraug.create_synthesizer("fevgan").name == "fevgan"


def test_what_a_checkout_has_wins(more: Path) -> None:
    assert find_weights("fevgan") == EMBEDDED / "fevgan"
    assert set(embedded_weights()) == {file.parent.name for file in EMBEDDED.glob("*/*.json")}


def test_a_folder_of_that_name_wins(
    core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EMBEDDED / "pixel", tmp_path / "pixel")
    monkeypatch.chdir(tmp_path)
    assert find_weights("pixel") == Path("pixel")
