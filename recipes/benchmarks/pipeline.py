"""How many faces per second each step of the pipeline handles, beside MediaPipe in the same run.

    python -m recipes.benchmarks.pipeline LFW.parquet LONDON.parquet FER2013.parquet \\
        [--task face_landmarker.task] [--synthesizer pixel] [--threads 1 --threads 2] \\
        [--device cpu] [--clock wall] [--number 32] [--repeats 9] [--csv OUT.csv]

Faces come from the data sets, spread evenly. "detect" is one look at the photograph: resizing,
BlazeFace, merging what it finds; "mesh" cuts the face out and finds its 478 landmarks; the nets
alone are listed below them. "align" to "check" are those of the first synthesizer; "end to end" is
an `ExpressionAugmenter` without cache on photographs that it has not seen, check included.

On the CPU, N threads mean N processors that the process is held to, and N faces at a time, as the
pipeline works; peers too run N times side by side, in one thread each. All steps alternate, at
every number of threads, so that whatever else the machine does slows all alike: median and
quartiles over the repeats, and the median of the ratios to the peer, repeat by repeat. On a machine
that is busy with other things, `--clock cpu --threads 1` counts the seconds of processor time
instead, of all threads together. With `--device cuda` the faces of a step are one batch, and the
card is waited for.
"""

from __future__ import annotations

import csv
import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import typer

from expraug.datasets import open_source
from expraug.errors import ExpraugError
from expraug.threads import map_threads, single_threaded
from recipes.benchmarks.peers import litert_inputs, litert_nets, mediapipe_detector, side_by_side
from recipes.benchmarks.pipeline_steps import (
    Faces,
    Step,
    Synthesis,
    find_faces,
    landmark_steps,
    saving_steps,
)

OURS, MEDIAPIPE, LITERT = "expraug", "MediaPipe", "LiteRT"
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "mediapipe", "ai-edge-litert")


class Key(NamedTuple):
    """What was done, by what, and on how many processors (0: on a card)."""

    step: str
    by: str
    threads: int


Runs = dict[Key, Callable[[], object]]
"""What does each step for all faces."""


@dataclass(frozen=True)
class Row:
    """A step's speed: faces per second, once for each repeat."""

    key: Key
    rates: list[float]

    def quartiles(self) -> tuple[float, float, float]:
        """Return median, lower and upper quartile."""
        low, middle, high = np.quantile(self.rates, [0.25, 0.5, 0.75])
        return float(middle), float(low), float(high)


def read_images(path: Path, number: int) -> list[np.ndarray]:
    """Return so many images of a set, spread evenly over it; unreadable ones are left out."""
    source = open_source(path)
    images = []
    for row in np.linspace(0, len(source) - 1, min(number, len(source))).astype(int):
        try:
            images.append(source[int(row)].read())
        except ExpraugError:
            continue
    return images


def _parts(count: int, threads: int) -> list[Sequence[int]]:
    return [part.tolist() for part in np.array_split(np.arange(count), threads) if len(part)]


def step_runs(steps: dict[str, Step], count: int, threads: Sequence[int]) -> Runs:
    """Return the steps on the CPU."""

    def work(step: Step, cores: int) -> Callable[[], object]:
        def run() -> None:
            if step.spreads:
                step.work(range(count))
                return
            with single_threaded():
                map_threads(step.work, _parts(count, cores), cores)

        return run

    return {Key(name, OURS, n): work(s, n) for name, s in steps.items() for n in threads}


def card_runs(steps: dict[str, Step], count: int, device: torch.device) -> Runs:
    """Return the steps on a card."""

    def work(step: Step) -> Callable[[], object]:
        def run() -> None:
            step.work(range(count))
            torch.cuda.synchronize(device)

        return run

    return {Key(name, OURS, 0): work(step) for name, step in steps.items()}


def peer_runs(faces: Faces, task: Path, threads: Sequence[int]) -> Runs:
    """Return what MediaPipe and LiteRT do on the CPU."""
    inputs = {
        "net: detector": faces.squares,
        "net: mesh": faces.pixels,
        "net: blendshapes": faces.points,
    }
    arrays = {step: litert_inputs(step, tensors) for step, tensors in inputs.items()}
    runs: Runs = {}
    for n in threads:
        hold_to(n)  # the threads that they start now stay there
        whole = [mediapipe_detector(task, "detect") for _ in range(n)]
        runs[Key("landmarks, whole", MEDIAPIPE, n)] = side_by_side(whole, faces.images)
        nets = [litert_nets(task) for _ in range(n)]
        for step in inputs:
            workers = [worker[step] for worker in nets]
            runs[Key(step, LITERT, n)] = side_by_side(workers, arrays[step])
    return runs


_PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def hold_to(threads: int) -> None:
    """Hold this thread, and those that it starts, to so many processors; 0 lets it go."""
    torch.set_num_threads(max(1, threads))
    if _PROCESSORS:
        os.sched_setaffinity(0, _PROCESSORS[: threads or len(_PROCESSORS)])


def measure(runs: Runs, count: int, repeats: int, clock: Callable[[], float]) -> list[Row]:
    """Run all in turn, so many times after a first one that is not counted."""
    rates: dict[Key, list[float]] = {key: [] for key in runs}
    for repeat in range(repeats + 1):
        for key, run in runs.items():
            hold_to(key.threads)
            start = clock()
            run()
            if repeat:
                rates[key].append(count / (clock() - start))
    hold_to(0)
    return [Row(key, values) for key, values in rates.items()]


def find(rows: Sequence[Row], step: str, threads: int, ours: bool) -> Row | None:
    """Return the row of a step, of ours or of its peer; None if there is none."""
    for row in rows:
        if (row.key.step, row.key.threads, row.key.by == OURS) == (step, threads, ours):
            return row
    return None


def markdown(rows: Sequence[Row]) -> str:
    """Return a table: a line for each step, columns for each number of threads."""
    threads = list(dict.fromkeys(row.key.threads for row in rows))
    head = ["faces per second"]
    for n in threads:
        head += [f"{n} core{'s' * (n > 1)}", "peer", "ratio"] if n else ["card"]
    lines = [head, ["---"] * len(head)]
    for step in dict.fromkeys(row.key.step for row in rows):
        line = [step]
        for n in threads:
            ours, peer = find(rows, step, n, True), find(rows, step, n, False)
            assert ours is not None
            line.append(_cell(ours))
            if n and peer is None:
                line += ["", ""]
            elif peer is not None:
                ratio = np.median(np.array(ours.rates) / peer.rates)
                line += [f"{_cell(peer)}, {peer.key.by}", f"{ratio:.2f}"]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Row) -> str:
    """Return the median with the quartiles, in three digits or more."""
    figures = (f"{v:.3g}" if v < 100 else f"{v:,.0f}" for v in row.quartiles())
    return "{} [{}, {}]".format(*figures)


def header(device: torch.device) -> str:
    """Return machine and versions."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        model = next(
            (value.strip() for key, _, value in lines if key.strip() == "model name"), model
        )
    card = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    busy = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{model}, {len(_PROCESSORS) or os.cpu_count()} processors"
        f" ({torch.backends.cpu.get_cpu_capability()}){card}{busy}\n"
        f"{platform.system()}, Python {platform.python_version()}, {', '.join(versions)}"
    )


def write_csv(path: Path, found: dict[str, tuple[int, list[Row]]]) -> None:
    """Write a line for each row of each set."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("set", "faces", "step", "by", "threads", "median", "q1", "q3", "repeats"))
        for name, (count, rows) in found.items():
            for row in rows:
                figures = (round(value, 3) for value in row.quartiles())
                writer.writerow((name, count, *row.key, *figures, len(row.rates)))


def all_runs(
    faces: Faces,
    synthesizers: Sequence[str],
    threads: Sequence[int],
    task: Path | None,
    folder: Path,
) -> Runs:
    """Return what is to be run on a set."""
    syntheses = [Synthesis(faces, name) for name in synthesizers]
    first = syntheses[0]
    steps = landmark_steps(faces)
    steps |= {"align": Step(first.align), "composite": Step(first.composite)}
    steps["check"] = Step(first.check)
    for synthesis in syntheses:
        steps |= synthesis.steps()
    steps |= saving_steps(faces.images, folder)
    if faces.device.type != "cpu":
        return card_runs(steps, len(faces), faces.device)
    runs = step_runs(steps, len(faces), threads)
    return runs | (peer_runs(faces, task, threads) if task is not None else {})


def main(
    data: Annotated[list[Path], typer.Argument(help="Parquet files, or folders of class folders.")],
    synthesizer: Annotated[list[str] | None, typer.Option(help="Beside `transfer`.")] = None,
    task: Annotated[Path | None, typer.Option(help="MediaPipe's face_landmarker.task.")] = None,
    threads: Annotated[list[int], typer.Option(min=1, help="Cores; several.")] = [1, 2],  # noqa: B006
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    clock: Annotated[Literal["wall", "cpu"], typer.Option(help="What is counted.")] = "wall",
    number: Annotated[int, typer.Option(min=1, help="Images of each set.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Of each step.")] = 9,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="File for the figures.")] = None,
) -> None:
    where = torch.device(device)
    seconds = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    if _PROCESSORS and where.type == "cpu" and max(threads) > len(_PROCESSORS):
        raise typer.BadParameter(
            f"--threads {max(threads)}: there are {len(_PROCESSORS)} processors"
        )
    print(header(where), flush=True)
    found: dict[str, tuple[int, list[Row]]] = {}
    for path in data:
        faces = find_faces(read_images(path, number), where)
        name = path.parent.name if path.is_file() else path.name
        if not len(faces):
            raise typer.BadParameter(f"{path}: no face is found in any of its images")
        heights, widths = zip(*(image.shape[:2] for image in faces.images), strict=True)
        size = f"{np.median(widths):.0f} x {np.median(heights):.0f}"
        names = ["transfer", *(synthesizer or [])]
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            runs = all_runs(faces, names, threads, task, Path(folder))
            rows = measure(runs, len(faces), repeats, seconds)
        del runs
        gc.collect()  # MediaPipe's landmarkers fail when they end after Python has
        found[f"{name}/{path.stem}"] = len(faces), rows
        print(
            f"\n{name}: {len(faces)} faces, {size} px, {repeats} repeats\n\n{markdown(rows)}",
            flush=True,
        )
    if csv_file is not None:
        write_csv(csv_file, found)


if __name__ == "__main__":
    typer.run(main)
