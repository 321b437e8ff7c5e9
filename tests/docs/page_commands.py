"""Runs the commands that pages show, each kind in its own way."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import typer
from typer.testing import CliRunner

from expraug.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[2]


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(found[1], found[2], text[: found.start()].count("\n") + 2)


def commands(block: Block) -> list[str]:
    """Return the command lines of a block; a block without language has some if it begins so."""
    if block.language not in ("", "bash") or (
        not block.language and not re.match(r"(expraug|python|pip|make) ", block.code)
    ):
        return []
    lines = block.code.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]


def run(command: str) -> None:
    """Run a command line, or check it as far as can be done here; AssertionError if it is wrong."""
    words = shlex.split(os.path.expandvars(command))
    while re.match(r"\w+=", words[0]):  # variables for one command
        words = words[1:]
    if words[0].endswith(".sh"):
        assert os.access(REPOSITORY / words[0], os.X_OK), f"no script {words[0]}"
        return
    known = [kind for kind in KINDS if words[: len(kind)] == list(kind)]
    assert known, f"no test knows how to run {command!r}: see {Path(__file__).name}"
    best = max(known, key=len)
    KINDS[best](words[len(best) :])


def _expraug(arguments: list[str]) -> None:
    if arguments[0] == "evaluate" and "throughput" not in arguments:
        return _parses(app, arguments)  # takes minutes: tests/evaluate runs it
    if arguments[0] in ("expand", "preview") and not Path(arguments[1].split(":")[-1]).exists():
        return _parses(app, arguments)  # a placeholder, as SOURCE
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return None


def _recipe(arguments: list[str]) -> None:
    try:
        module = importlib.import_module(arguments[0])
    except ModuleNotFoundError as error:
        if error.name != "mediapipe":  # what ours is compared with; only developers have it
            raise
        return
    program = getattr(module, "app", None)
    if not isinstance(program, typer.Typer):
        program = typer.Typer()
        program.command()(module.main)
    _parses(program, arguments[1:])


def _venv(arguments: list[str]) -> None:
    """Making an environment is the machine's business; what is installed in it takes minutes."""
    assert arguments[0].isidentifier()


def _parses(program: typer.Typer, arguments: list[str]) -> None:
    """Check that a program has these commands, options and numbers of arguments."""
    command = typer.main.get_command(program)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
    command.make_context("command", list(arguments))


def _make(arguments: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert arguments[0] in targets, f"no target {arguments[0]!r} in the Makefile"


def _pip(arguments: list[str]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for name in arguments:
        found = re.fullmatch(r"(expraug)(?:\[([\w,]+)\])?", name)
        assert found, f"only expraug is installed by our pages, not {name!r}"
        for extra in (found[2] or "").split(","):
            assert not extra or extra in project["optional-dependencies"], f"no extra {extra!r}"


KINDS: dict[tuple[str, ...], Callable[[list[str]], None]] = {
    ("expraug",): _expraug,
    ("python", "-m"): _recipe,
    ("python", "-m", "venv"): _venv,
    ("make",): _make,
    ("pip", "install"): _pip,
}
"""What runs a command, by the words that it begins with."""
