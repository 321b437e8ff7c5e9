"""What `make wheels` built: names, sizes, weights, links. `make release-check` runs it."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from expraug import __version__
from expraug.pretrained import _MORE

REPOSITORY = Path(__file__).parents[2]
DIST = REPOSITORY / "dist"
LARGEST = 25_000_000  # bytes of the core wheel

pytestmark = pytest.mark.skipif(
    "RELEASE_CHECK" not in os.environ,  # what lies in dist/ may be of another day
    reason="make release-check builds the wheels and runs this",
)


def wheel(name: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(DIST / f"{name}-{__version__}-py3-none-any.whl")


def weights_in(names: list[str]) -> set[str]:
    found = (re.search(r"(\w+)/model\.safetensors$", name) for name in names)
    return {match[1] for match in found if match}


def test_the_core_is_small_and_has_what_the_default_needs() -> None:
    core = wheel("expraug")
    assert Path(str(core.filename)).stat().st_size < LARGEST
    everything = {file.parent.name for file in (REPOSITORY / "expraug/weights").glob("*/*.json")}
    assert weights_in(core.namelist()) == everything - set(_MORE)
    assert "expraug/py.typed" in core.namelist()
    assert not [n for n in core.namelist() if n.split("/")[0] not in ("expraug",
                f"expraug-{__version__}.dist-info")]  # fmt: skip


def test_the_other_weights_have_a_wheel() -> None:
    more = wheel("expraug_weights")
    assert weights_in(more.namelist()) == set(_MORE)
    for name in _MORE:
        for file in ("config.json", "model.safetensors", "README.md"):
            own = REPOSITORY / "expraug" / "weights" / name / file
            assert more.read(f"expraug_weights/{name}/{file}") == own.read_bytes()


def test_the_source_distribution_builds_the_same_wheel() -> None:
    with tarfile.open(DIST / f"expraug-{__version__}.tar.gz") as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    core = [n for n in wheel("expraug").namelist() if n.startswith("expraug/")]
    assert set(core) <= set(names)


def description() -> str:
    core = wheel("expraug")
    text = core.read(f"expraug-{__version__}.dist-info/METADATA").decode()
    return str(HeaderParser().parsestr(text).get_payload())


def test_links_of_the_description_are_absolute_and_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", description())
    assert len(links) > 20
    ours = re.compile(
        r"https://(?:github\.com/expraug/expraug/blob|raw\.githubusercontent\.com/expraug/expraug)"
        r"/main/([^#]+)"
    )
    for link in links:
        assert link.startswith("https://"), link
        found = ours.match(link)
        assert not found or (REPOSITORY / found[1]).exists(), link


def test_the_picture_is_one_that_pypi_can_load() -> None:
    (first, *_) = re.findall(r"!\[[^\]]*\]\((\S+)\)", description())
    assert first.startswith("https://raw.githubusercontent.com/")
    assert (REPOSITORY / "examples" / Path(first).name).stat().st_size < 1_500_000


def test_a_tag_is_the_version_and_has_its_section() -> None:
    tag = os.environ.get("TAG")
    if not tag:
        pytest.skip("no TAG given")
    assert tag == f"v{__version__}"
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", changes, re.M)


def test_the_version_stands_in_one_place() -> None:
    for file in ("pyproject.toml", "expraug/weights/pyproject.toml", "CITATION.cff"):
        assert not re.search(r"^version\s*[=:]", (REPOSITORY / file).read_text(), re.MULTILINE)
