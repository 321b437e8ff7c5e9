"""What GitHub reads: workflows, issue forms, the citation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

REPOSITORY = Path(__file__).parents[2]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in read(file)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_run_what_is_there(file: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for step in steps(file):
        command = step.get("run")
        if command is None:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@\S+", step["uses"]), step
            continue
        words = shlex.split(command)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), command
        for word in words:
            if word.startswith("tests/"):
                assert (REPOSITORY / word).exists(), command


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_may_only_read_unless_a_job_says_more(file: Path) -> None:
    assert read(file)["permissions"] == {"contents": "read"}


def test_publishing_needs_no_token() -> None:
    (publish,) = [job for name, job in read(REPOSITORY / ".github/workflows/release.yml")["jobs"]
                  .items() if name == "publish"]  # fmt: skip
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in (REPOSITORY / ".github/workflows/release.yml").read_text()


def test_three_pythons_and_the_lowest_are_tested() -> None:
    jobs = read(REPOSITORY / ".github/workflows/test.yml")["jobs"]
    assert len(jobs["test"]["strategy"]["matrix"]["python"]) == 3
    lowest = re.search(r'requires-python = ">=([\d.]+)"',
                       (REPOSITORY / "pyproject.toml").read_text())  # fmt: skip
    assert lowest is not None
    assert jobs["test"]["strategy"]["matrix"]["python"][0] == lowest[1]
    assert "lowest" in jobs


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.stem)
def test_issue_forms(file: Path) -> None:
    form = read(file)
    if file.stem == "config":
        assert form["contact_links"]
        return
    assert form["name"]
    assert form["description"]
    identifiers = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(identifiers) == len(set(identifiers)) > 0


def test_the_citation_has_what_the_format_asks_for() -> None:
    citation = read(REPOSITORY / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == "Apache-2.0"


def test_the_files_that_a_community_looks_for() -> None:
    for name in ("CONTRIBUTING", "CODE_OF_CONDUCT", "SECURITY"):
        assert (REPOSITORY / ".github" / f"{name}.md").stat().st_size > 400
