"""Does a long run of short ones stay as it began?

    python -m recipes.stress.soak --source LFW.parquet --minutes 12

Round after round a transform and a `DataLoader` are made anew, as by many short trainings in one
process, and send real faces through: in the process itself and in two workers, by turns, on an
LMDB and on a directory cache. Both caches are too small for what is made, so that every round
reads, makes, stores and evicts. The same face and random numbers must give the same bytes in
every round, in either cache and in any process. Memory and open files of the process are read at
the end of each round, those of workers at each face.

Prints one JSON line; the exit code is 1 if a picture differed, a cache outgrew its limit, or files
or memory grew.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.utils.data import DataLoader, Dataset

from expraug import Expression
from expraug.cache import StoreKind, SynthesisCache, image_digest
from expraug.datasets import open_source
from expraug.transforms.torchvision import RandomExpression

NAMES = [str(expression) for expression in Expression]
DRAWS = 3
"""Random numbers of each face that come back every so many rounds: it asks for other targets."""
SETUPS: list[tuple[StoreKind, int]] = [
    ("lmdb", 0), ("directory", 0), ("lmdb", 2), ("directory", 2),
]  # fmt: skip


def memory() -> float:
    """Return the resident memory of this process that is not shared, in MB."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class Round(Dataset[tuple[int, bytes, bool, float, int]]):
    """Index, digest and whether it was changed, of each face; memory and open files behind it."""

    def __init__(self, faces: Sequence[Any], transform: RandomExpression, draw: int) -> None:
        self.faces, self.transform, self.draw = faces, transform, draw

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[int, bytes, bool, float, int]:
        image, label = self.faces[index]
        torch.manual_seed(index * DRAWS + self.draw)
        made, shown = self.transform(image, label)
        digest = image_digest(made) + bytes([shown])
        return index, digest, made is not image, memory(), open_files()


@dataclass
class Found:
    """What the rounds of one set-up found: the last values, and those after its first rounds."""

    rounds: int = 0
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    worker_memory: list[float] = field(default_factory=list)
    worker_files: list[int] = field(default_factory=list)
    cache_bytes: list[int] = field(default_factory=list)

    def to_dict(self, settled: int) -> dict[str, Any]:
        def ends(values: Sequence[float]) -> list[float]:
            return [round(values[min(settled, len(values) - 1)], 1), round(values[-1], 1)]

        return {
            "rounds": self.rounds,
            "memory, MB": ends(self.memory),
            "open files": ends(self.files),
            "of a worker, MB": ends(self.worker_memory),
            "open files of a worker": ends(self.worker_files),
            "bytes in cache at most": max(self.cache_bytes),
        }


def main(
    source: Annotated[Path, typer.Option(help="Labelled faces: a folder, or a parquet file.")],
    faces: int = 60,
    minutes: float = 12.0,
    synthesizer: str = "auto",
    limit: Annotated[int, typer.Option(help="Bytes of each cache.")] = 600_000,
    settled: Annotated[int, typer.Option(help="Rounds before growth counts.")] = 3,
) -> None:
    torch.set_num_threads(1)
    items = open_source(source)
    step = max(1, len(items) // faces)
    chosen = [items[i] for i in range(0, len(items), step)][:faces]
    loaded = [(item.read(), NAMES.index(item.class_name)) for item in chosen]
    first: dict[tuple[int, int], bytes] = {}
    differing = changed = seen = number = 0
    found = {setup: Found() for setup in SETUPS}
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as root:
        while not number or time.monotonic() < end or number % len(SETUPS):
            store, workers = setup = SETUPS[number % len(SETUPS)]
            draw = number // len(SETUPS) % DRAWS
            cache = SynthesisCache(Path(root) / store, store, max_bytes=limit)
            transform = RandomExpression(NAMES, synthesizer, cache=cache, p=1.0)
            loader = DataLoader(
                Round(loaded, transform, draw), None, num_workers=workers, shuffle=True
            )
            worker = (0.0, 0)
            for index, digest, was_changed, used, files in loader:
                differing += first.setdefault((index, draw), digest) != digest
                changed += was_changed
                seen += 1
                worker = max(worker[0], used), max(worker[1], files)
            now = found[setup]
            now.rounds += 1
            now.worker_memory.append(worker[0])
            now.worker_files.append(worker[1])
            now.memory.append(memory())
            now.files.append(open_files())
            now.cache_bytes.append(cache.info().bytes)
            number += 1
            told = f"{store}, {workers} workers: {now.memory[-1]:.0f} MB, {now.files[-1]} files"
            print(f"round {number}, {told}, {differing} of {seen} differ", file=sys.stderr)
    told_of = {f"{s}, {w} workers": now.to_dict(settled) for (s, w), now in found.items()}
    print(json.dumps({"faces": seen, "changed": changed, "differing": differing} | told_of))
    grown = [
        after > before * 1.1 + slack
        for of in told_of.values()
        for name, slack in (("memory, MB", 20), ("open files", 1), ("of a worker, MB", 20))
        for before, after in [of[name]]
    ]
    outgrown = [of["bytes in cache at most"] > limit * 1.2 for of in told_of.values()]
    sys.exit(1 if differing or not changed or any(grown) or any(outgrown) else 0)


if __name__ == "__main__":
    typer.run(main)
