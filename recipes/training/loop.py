"""The loop of every training: steps, a line of figures now and then, a state to go on from."""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

REPORT_SECONDS = 45.0
"""Between two reports of a run that finishes in time."""


@dataclass(frozen=True)
class RunOptions:
    """Where a training writes and computes, and how long it may take.

    Args:
        out: folder of the weights.
        work: folder of `state.pt`, `log.csv` and contact sheets.
        device: where all of it is.
        minutes: stop after so long; 0 for never.
        finish: what fits into the minutes is the whole run, whose schedule ends with them; steps
            do not count, and reports come every `REPORT_SECONDS`. Nothing goes on from an earlier
            run.
        since: when the minutes began, by `time.monotonic`; now if None.

    Raises:
        ValueError: a run that is to finish in time, and no minutes.
    """

    out: Path
    work: Path
    device: torch.device
    minutes: float = 0
    finish: bool = False
    since: float | None = None

    def __post_init__(self) -> None:
        if self.finish and not self.minutes:
            raise ValueError("a run that is to finish in time must be told how many minutes it has")

    def sheet(self, step: int) -> Path:
        """Return the file of the contact sheet after so many steps."""
        return self.work / f"step-{step:06d}.png"


class Learner(Protocol):
    """What the loop needs of a trainer."""

    device: torch.device
    step_count: int
    """Steps done, of all runs."""
    clock: Callable[[], float] | None
    """Share of its time that a run has had, if it ends at a time."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def run(
    trainer: Learner,
    step: Callable[[], Mapping[str, float | Tensor]],
    report: Callable[[int], dict[str, float]],
    run_options: RunOptions,
    *,
    steps: int,
    every: int,
    seed: int,
) -> None:
    """Train, from the state in the work folder on if there is one.

    Args:
        trainer: whose state it is.
        step: takes one step and returns its losses.
        report: called with the number of steps done, every so often: writes what has become of
            the training, and returns figures.
        run_options: where, and for how long.
        steps: of the whole run.
        every: steps between two reports.
        seed: of the draws; a run that was broken off goes on with those it would have had.
    """
    work, minutes, finish = run_options.work, run_options.minutes, run_options.finish
    start = time.monotonic() if run_options.since is None else run_options.since
    checkpoint = work / "state.pt"
    last = time.monotonic()
    if finish:
        trained, length = last, start + 60 * minutes - last
        trainer.clock = lambda: (time.monotonic() - trained) / max(length, 1e-9)
    elif checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True, map_location=trainer.device)
        trainer.load_state_dict(state)
    print(f"from step {trainer.step_count}", flush=True)
    sums: dict[str, list[float | Tensor]] = defaultdict(list)
    while finish or trainer.step_count < steps:
        torch.manual_seed(seed * 1_000_003 + trainer.step_count)
        for name, value in step().items():
            sums[name].append(value)
        done, now = trainer.step_count, time.monotonic()
        late = bool(minutes) and now - start > 60 * minutes
        due = now - last > REPORT_SECONDS if finish else done % every == 0 or done >= steps
        if not (due or late):
            continue
        line: dict[str, Any] = {"step": done, "seconds": round(now - start)}
        line |= {k: round(float(sum(v)) / len(v), 5) for k, v in sums.items()}
        line |= {k: round(v, 5) for k, v in report(done).items()}
        append_line(work / "log.csv", line)
        print(line, flush=True)
        sums.clear()
        last = time.monotonic()
        if finish:
            if late:
                return
            continue
        torch.save(trainer.state_dict(), work / "state.part")
        (work / "state.part").replace(checkpoint)
        if late and done < steps:
            print(f"stopped after {minutes:g} minutes; the same command goes on")
            return


def append_line(file: Path, line: dict[str, Any]) -> None:
    """Append a line to a CSV, which gets the columns that it does not have."""
    columns, lines = [], []
    if file.is_file():
        with file.open(newline="") as known:
            reader = csv.DictReader(known)
            columns, lines = list(reader.fieldnames or []), list(reader)
    # a run that goes on tells its losses in another order, leaves out one that is taken seldom, and
    # has others only from some step on
    columns += [name for name in line if name not in columns]
    part = file.with_suffix(".part")
    with part.open("w", newline="") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows([*lines, line])
    part.replace(file)
