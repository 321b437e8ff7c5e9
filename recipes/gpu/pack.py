"""Make everything that steps need on a machine with a GPU and without a network.

    python -m recipes.gpu.pack tests throughput DATA [--out .gpu] [--pairs PAIRS]
        [--classifier NET ...] [--train SYSTEM ...] [--synthetics FILE]

The folder holds wheels of the packages that such a machine may lack, a subfolder with the data of
each step, and `without.txt`: tracked files that no step asked for needs, which may stay behind.
Sizes are printed; more than 64 MiB in all, with the tracked files that travel, is an error.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

REPOSITORY = Path(__file__).parents[2]
WHEELS, WITHOUT = "wheels", "without.txt"
MOST = 64 << 20
PYTHON = "3.12"
"""Of the machine with the GPU."""
PACKAGES = ("lmdb", "omegaconf")
"""What it lacks of what the steps import; wheels that need no other of these."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_EMBEDDED = "expraug/weights/"
_NEVER = ("examples/", "docs/", ".ci/")
"""No step reads them, but for the faces."""
_FACES = "examples/faces/"


@dataclass(frozen=True)
class Step:
    """What a step needs.

    Args:
        weights: embedded weights, by name; None needs all.
        faces: whether it needs the bundled faces.
        module: its function `pack` writes the step's data into a folder; None needs none.
    """

    weights: tuple[str, ...] | None
    faces: bool = False
    module: str | None = None


STEPS = {
    "tests": Step(None, faces=True),
    "throughput": Step(None, faces=True),
    "systems": Step(
        ("unet_cgan", "fevgan", "dlib_descriptor", "mouth_painter"), module="recipes.gpu.systems"
    ),
    "tables": Step((), module="recipes.fer.pack_tables"),
}


def size_of(paths: Sequence[Path]) -> int:
    """Return the bytes of files."""
    return sum(path.stat().st_size for path in paths)


def tracked() -> list[str]:
    """Return the files that travel with the repository."""
    command = ["git", "ls-files", "-z"]
    told = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return [name for name in told.stdout.split("\0") if (REPOSITORY / name).is_file()]


def not_needed(names: Sequence[str], steps: Sequence[str]) -> list[str]:
    """Return which tracked files none of the steps needs."""
    asked = [STEPS[step] for step in steps]
    every = any(step.weights is None for step in asked)
    weights = {_EMBEDDED + name for step in asked for name in step.weights or ()}
    faces = any(step.faces for step in asked)

    def needed(name: str) -> bool:
        if name.startswith(_EMBEDDED):
            return every or name.rpartition("/")[0] in weights
        if name.startswith(_FACES):
            return faces
        return not name.startswith(_NEVER)

    return [name for name in names if not needed(name)]


def download(folder: Path) -> None:
    """Put the wheels into a folder.

    Raises:
        subprocess.CalledProcessError: the package index cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--python-version", PYTHON]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    subprocess.run([*command, "--dest", str(folder), *PACKAGES], check=True)


def called(function: Callable[..., Any], given: dict[str, Any]) -> None:
    """Call a function with those of the arguments that it takes and that are there."""
    names = inspect.signature(function).parameters
    function(
        **{name: value for name, value in given.items() if name in names and value is not None}
    )


def pack(steps: Sequence[str], out: Path, given: dict[str, Any], wheels: bool = True) -> None:
    """Pack steps.

    Args:
        steps: names.
        out: folder.
        given: what the steps' own `pack` may ask for.
        wheels: download them; else those that are there stay.

    Raises:
        ValueError: an unknown step, or more than fits.
    """
    if unknown := set(steps) - set(STEPS):
        raise ValueError(f"no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    out.mkdir(parents=True, exist_ok=True)
    if wheels:
        download(out / WHEELS)
    for step in steps:
        if (module := STEPS[step].module) is not None:
            called(importlib.import_module(module).pack, given | {"out": out / step})
    names = tracked()
    left = not_needed(names, steps)
    (out / WITHOUT).write_text("".join(f"{name}\n" for name in left))
    travels = size_of([REPOSITORY / name for name in set(names) - set(left)])
    print(f"{travels / 2**20:6.1f} MiB  tracked files, without {len(left)} in {WITHOUT}")
    total = travels
    for part in sorted(out.iterdir()):
        files = [p for p in (part.rglob("*") if part.is_dir() else [part]) if p.is_file()]
        if part.is_dir() and part.name not in (*steps, WHEELS):
            print(f"  {part} is of no step asked for: it should not travel")
            continue
        total += size_of(files)
        print(f"{size_of(files) / 2**20:6.1f} MiB  {part.name}")
    print(f"{total / 2**20:6.1f} MiB  in all")
    if total > MOST:
        raise ValueError(f"{total / 2**20:.1f} MiB are more than {MOST >> 20}: pack fewer steps")


def main(
    steps_and_data: Annotated[list[str], typer.Argument(help="Steps, then the sets' folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path(".gpu"),
    real_faces: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    pairs: Annotated[Path | None, typer.Option(help="Of recipes.pairs.make_pairs.")] = None,
    classifier: Annotated[
        list[Path] | None, typer.Option(help="Of recipes.fer_classifier.train.")
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option(help="Of `systems`: unet_cgan, fevgan, mouth_painter; all.")
    ] = None,
    synthetics: Annotated[Path | None, typer.Option(help="Of recipes.fer.make_synthetics.")] = None,
    wheels: Annotated[bool, typer.Option(help="Download wheels.")] = True,
) -> None:
    *steps, data = steps_and_data
    given = {
        "data": Path(data),
        "real_faces": real_faces,
        "real_work": real_faces,
        "pairs": pairs,
        "classifier": classifier,
        "train": train,
        "synthetics": synthetics,
    }
    try:
        pack(steps, out, given, wheels)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
