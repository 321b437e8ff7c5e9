"""What a training leaves behind while it runs: a line of figures, and a state to go on from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch


def append_line(file: Path, line: dict[str, Any]) -> None:
    """Append a line to a CSV, under the columns of its first line."""
    new = not file.is_file()
    # a run that goes on tells its losses in another order, or lacks one that is taken seldom
    columns = list(line) if new else file.read_text().splitlines()[0].split(",")
    with file.open("a", newline="") as out:
        writer = csv.DictWriter(out, columns, extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow(line)


def save_state(file: Path, state: dict[str, Any]) -> None:
    """Save the state of a training, so that a run broken off in between keeps the last one."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)
