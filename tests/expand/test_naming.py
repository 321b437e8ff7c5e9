from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expraug.expand.naming import safe_name, synthetic_name


@pytest.mark.parametrize("name", ["ann", "Zoë Ångström (été)", "a.b", "london_001-0a1b", "幸せ"])
def test_good_names_stay(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "..\\b",
        "C:\\x",
        "a\0b",
        "a\nb",
        "x" * 1000,
        "é" * 500,
        "name.",
        "name ",
        ".hidden",
        "NUL",
        "com1.txt",
        "manifest.pq",
        "README.md",
        "classes.txt",
        "a\ud800b",
        "\u202egnp.exe",
    ],
)
def test_bad_names_change(name: str) -> None:
    changed = safe_name(name)
    assert changed != name
    assert_one_component(changed)


@given(st.text(alphabet=st.characters(), max_size=300))
def test_every_name_is_one_component(name: str) -> None:
    assert_one_component(safe_name(name))
    assert safe_name(name) == safe_name(name)


def assert_one_component(name: str) -> None:
    root = Path("/root/set")
    assert os.path.dirname(os.path.normpath(root / name)) == str(root)
    assert len(synthetic_name(name, "pixel", 100, 0, "png").encode()) <= 255
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert name.isprintable()


def test_different_names_stay_different() -> None:
    names = ["a/b", "a:b", "a_b", "a\\b", "x" * 500, "x" * 501, ".", ".."]
    assert len({safe_name(name) for name in names}) == len(names)


def test_synthetic_name() -> None:
    assert synthetic_name("ann", "pixel", 80, 2, "png") == "ann__pixel_0.80_2.png"
    assert synthetic_name("ann", "pixel", 100, 0, "jpeg") == "ann__pixel_1.00_0.jpg"
    assert "/" not in synthetic_name("../ann", "my/pixel", 100, 0, "webp")
