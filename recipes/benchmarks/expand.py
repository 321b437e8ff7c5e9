"""How fast `expraug expand` is, against decoding and encoding alone, and what memory it takes.

    python -m recipes.benchmarks.expand --source LFW.parquet --faces 1000 --side 256
    python -m recipes.benchmarks.expand --source FER2013.parquet --side 0 --memory 1000,20000

The bound decodes each source and encodes as many PNG files, marked as synthetic, in as many threads
as the expansion has, and writes nothing. Both take turns in one process; rates are medians, in
faces per second from the first file to the finished set with its manifest and card. One face is
made of each source. Memory is the highest resident size of a process that expands sets of these
sizes (images are repeated if the source has fewer).
"""

from __future__ import annotations

import io
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from expraug.datasets import open_source
from expraug.expand import expand
from expraug.expressions import Expression
from expraug.faces.image import read_image
from expraug.faces.image_file import encode, provenance


def write_set(source: Path, folder: Path, count: int, side: int) -> Path:
    """Write `count` neutral and happy faces as JPEG, scaled to `side` unless that is 0."""
    faces = open_source(source)
    shown = {str(e): e for e in (Expression.NEUTRAL, Expression.HAPPY)}
    usable = []
    for index in range(len(faces)):
        item = faces[index]
        if item.class_name in shown:
            usable.append(index)
        if len(usable) == count:
            break
    if not usable:
        raise SystemExit(f"{source} has no class called neutral or happy")
    for number in range(count):
        item = faces[usable[number % len(usable)]]
        data = item.file if isinstance(item.file, bytes) else item.file.read_bytes()
        if side:
            image = Image.open(io.BytesIO(data)).convert("RGB").resize((side, side))
            out = io.BytesIO()
            image.save(out, "JPEG", quality=92)
            data = out.getvalue()
        path = folder / item.class_name / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def bound(folder: Path, threads: int) -> float:
    """Decode and encode every image; return the seconds."""
    paths = sorted(folder.rglob("*.jpg"))
    xmp = provenance("benchmark", "happy", 1.0, "source")

    def one(path: Path) -> int:
        return len(encode(read_image(path), "png", xmp))

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(one, paths))
    return time.perf_counter() - start


def expansion(folder: Path, synthesizer: str, threads: int) -> float:
    """Expand the set; return the seconds per face."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        report = expand(folder, out, synthesizer=synthesizer, num_workers=threads, **OPTIONS)
        seconds = time.perf_counter() - start
    if not report.made:
        raise SystemExit(f"{synthesizer} made nothing: {dict(report.skipped)}")
    return seconds / report.made


OPTIONS: dict[str, Any] = {"gate": None, "alignment": "crop", "max_per_source": 1}


def peak_memory(folder: Path, threads: int) -> int:
    """Return the highest resident size of a forked process that expands the set, in MiB."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            expansion(folder, "pixel", threads)
            code = 0
        finally:
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit("the expansion failed")
    return usage.ru_maxrss // 1024


def main(
    source: Annotated[Path, typer.Option(help="Labelled faces: a folder, or a parquet file.")],
    faces: int = 1000,
    side: Annotated[int, typer.Option(help="Faces are scaled to this; 0: left as they are.")] = 256,
    rounds: int = 3,
    synthesizers: str = "pixel,transfer",
    threads: int = os.cpu_count() or 1,
    memory: Annotated[str, typer.Option(help="Sizes of sets, as 1000,20000.")] = "",
) -> None:
    result: dict[str, Any] = {"source": source.name, "side": side, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if memory:  # first: nothing of torch may run before a fork
            result["peak MiB"] = {
                size: peak_memory(write_set(source, root / size, int(size), side), threads)
                for size in memory.split(",")
            }
        else:
            faces_set = write_set(source, root / "set", faces, side)
            names = synthesizers.split(",")
            bounds: list[float] = []
            times: dict[str, list[float]] = {name: [] for name in names}
            for name in names:
                expansion(write_set(source, root / "warm-up", 20, side), name, threads)
            for _ in range(rounds):
                bounds.append(bound(faces_set, threads) / faces)
                for name in names:
                    times[name].append(expansion(faces_set, name, threads))
            result |= {"faces": faces, "bound faces/s": round(1 / statistics.median(bounds), 1)}
            for name in names:
                ratios = [b / t for b, t in zip(bounds, times[name], strict=True)]
                result[name] = {
                    "faces/s": round(1 / statistics.median(times[name]), 1),
                    "of the bound": round(statistics.median(ratios), 3),
                }
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
