"""The site builds without a warning, and has every public class with its picture."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import expraug

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "docs"))


def test_every_public_class_has_a_picture() -> None:
    pytest.importorskip("matplotlib")
    import pictures

    classes = {name for name in expraug.__all__ if isinstance(getattr(expraug, name), type)}
    assert classes <= pictures.DRAWINGS.keys()


def test_a_picture_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pictures

    few = {name: pictures.DRAWINGS[name] for name in ("Uniform", "Outcome")}
    monkeypatch.setattr(pictures, "DRAWINGS", few)
    assert len(pictures.draw(tmp_path)) == 2
    assert pictures.draw(tmp_path) == []


def test_every_public_name_is_in_the_reference() -> None:
    pytest.importorskip("mkdocs")
    import hooks

    named = {member for _, members in hooks.REFERENCE.values() for member in members}
    assert set(expraug.__all__) <= named


@pytest.mark.parametrize(
    ("target", "source", "page", "expected"),
    [
        ("docs/labels.md", "README.md", "index.md", "labels.md"),
        ("examples/moving.webp", "README.md", "index.md", "examples/moving.webp"),
        ("../../expraug/weights/pixel/README.md", "docs/data/x.md", "data/x.md",
         "../model-cards/pixel.md"),
        ("../../../docs/results.md#speed", "expraug/weights/pixel/README.md",
         "model-cards/pixel.md", "../results.md#speed"),
        ("examples", "README.md", "index.md", "https://host/tree/main/examples"),
        ("nowhere.md", "README.md", "index.md", "nowhere.md"),
    ],
)  # fmt: skip
def test_links_are_led_to_the_site(target: str, source: str, page: str, expected: str) -> None:
    pytest.importorskip("mkdocs")
    import hooks

    assert hooks._link(target, source, page, "https://host") == expected


@pytest.mark.timeout(600)
def test_the_site_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("material")
    pytest.importorskip("mkdocs_jupyter")
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(REPOSITORY)
    site = tmp_path / "site"
    config = load_config("mkdocs.yml", site_dir=str(site), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    notebook = site / "notebooks" / "augment_and_look"
    (link,) = re.findall(
        r'href="([^"]*labels[^"]*)">list of reasons', (notebook / "index.html").read_text()
    )
    assert (notebook / link / "index.html").is_file()
    for name in expraug.__all__:
        pages = [p for p in (site / "reference").rglob("*.html") if f'id="expraug.{name}"' in
                 p.read_text()]  # fmt: skip
        assert pages, name
        if isinstance(getattr(expraug, name), type):
            assert re.search(rf"<img[^>]+{name}\.png", pages[0].read_text()), name
    for card in (REPOSITORY / "expraug" / "weights").glob("*/README.md"):
        assert (site / "model-cards" / card.parent.name / "index.html").is_file()
