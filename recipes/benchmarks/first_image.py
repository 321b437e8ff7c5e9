"""How long a fresh process takes to its first augmented image.

    python -m recipes.benchmarks.first_image [IMAGE] [--runs 5] [--python PATH]

Every run starts Python anew, imports expraug and gives one face crop a smile, then ends. The first
run is not counted: it brings the files into memory. `--python` names the interpreter of another
environment, say of an earlier version. CPU time depends less on what else the machine does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

IMAGE = Path(__file__).parents[2] / "examples" / "faces" / "neutral" / "london_008.jpg"

CODE = """
import expraug
expraug.augment({image!r}, "neutral", "happy", synthesizer={synthesizer!r}).load()
"""


def first_image(python: Path, image: Path, synthesizer: str) -> tuple[float, float]:
    """Return seconds of wall and of CPU time, from the start of a process to its end."""
    code = CODE.format(image=str(image.resolve()), synthesizer=synthesizer)
    begun, before = time.perf_counter(), os.times()
    # elsewhere, so that the environment's own package is imported and not this checkout
    subprocess.run([python.absolute(), "-c", code], check=True, cwd=tempfile.gettempdir())
    wall, after = time.perf_counter() - begun, os.times()
    busy = after.children_user + after.children_system
    return wall, busy - before.children_user - before.children_system


def main(
    image: Annotated[Path, typer.Argument(help="A face crop.")] = IMAGE,
    runs: Annotated[int, typer.Option(min=1, help="That are counted.")] = 5,
    python: Annotated[Path, typer.Option(help="Interpreter.")] = Path(sys.executable),
    synthesizer: str = "transfer",
) -> None:
    timed = [first_image(python, image, synthesizer) for _ in range(runs + 1)][1:]
    for name, seconds in zip(("wall", "CPU"), zip(*timed, strict=True), strict=True):
        middle = statistics.median(seconds)
        print(f"{name}: median of {runs} {middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    typer.run(main)
