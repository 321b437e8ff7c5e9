"""What `RandomExpression` costs in a training pipeline, and what making a face costs.

    python -m recipes.benchmarks.transform [--faces examples/faces] [--threads 1] [--json OUT]

Warm: a usual torchvision v2 training pipeline (decode, random resized crop, flip, colour jitter,
to float, normalise) with and without `RandomExpression` at p = 0.5 in front, every face cached.
Cold: faces per second of `pixel` through the whole pipeline without cache (alignment, synthesis,
paste-back), one by one and in batches of 64, against albumentations' `ElasticTransform` at the same
size. All in one run, alternating; medians and ratios.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.transforms import v2

from expraug import Expression, ExpressionAugmenter, SynthesisRequest
from expraug.datasets import open_source
from expraug.datasets.source import iterate
from expraug.transforms.torchvision import RandomExpression

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
CLASSES = ["happy", "neutral"]
Sample = tuple[bytes, int]


def samples(faces: Path, size: int) -> list[Sample]:
    """Return (JPEG bytes, label) of every sample face at one size."""
    found = []
    for item in iterate(open_source(faces)):
        image = Image.fromarray(item.read()).resize((size, size), Image.Resampling.LANCZOS)
        data = io.BytesIO()
        image.save(data, "JPEG", quality=95)
        found.append((data.getvalue(), CLASSES.index(item.class_name)))
    return found


def alternate(runs: dict[str, Callable[[], int]], rounds: int) -> dict[str, np.ndarray]:
    """Run each in turn; return microseconds per image, one value per round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name in runs:
        runs[name]()  # warm up
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            count = run()
            times[name].append((time.perf_counter() - start) / count * 1e6)
    return {name: np.array(values) for name, values in times.items()}


def pipeline_runs(data: list[Sample], size: int, cache: str) -> dict[str, Callable[[], int]]:
    """Return an epoch over the samples without and with a warm RandomExpression."""
    usual = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.8, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    expression = RandomExpression(CLASSES, p=0.5, cache=cache, on_miss="error")
    decoded = [(Image.open(io.BytesIO(jpeg)).convert("RGB"), label) for jpeg, label in data]
    expression.augmenter.warm(decoded, CLASSES, progress=False)

    def epoch(first: Callable[..., tuple[Image.Image, int]] | None) -> int:
        for jpeg, label in data:
            image = Image.open(io.BytesIO(jpeg)).convert("RGB")
            if first is not None:
                image, label = first(image, label)
            usual(image)
        return len(data)

    return {"usual": lambda: epoch(None), "with RandomExpression": lambda: epoch(expression)}


def cold_runs(data: list[Sample]) -> dict[str, Callable[[], int]]:
    """Return making each face, by expraug and by ElasticTransform."""
    import albumentations as A

    augmenter = ExpressionAugmenter("pixel")
    images = [np.array(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg, _ in data]
    targets = [Expression.NEUTRAL, Expression.HAPPY]
    requests = [SynthesisRequest(targets[label]) for _, label in data]
    rows = [i % len(images) for i in range(64)]
    batch = [images[i] for i in rows], [requests[i] for i in rows]
    elastic = A.Compose([A.ElasticTransform(p=1.0)])

    def one_by_one() -> int:
        for image, request in zip(images, requests, strict=True):
            augmenter([image], [request])
        return len(images)

    def batched() -> int:
        return len(augmenter(*batch))

    def distorted() -> int:
        for image in images:
            elastic(image=image)
        return len(images)

    return {"ElasticTransform": distorted, "pixel, one by one": one_by_one, "pixel, 64": batched}


def main(
    faces: Annotated[Path, typer.Option(help="ImageFolder of faces.")] = Path("examples/faces"),
    rounds: int = 15,
    threads: Annotated[int, typer.Option(help="Threads of torch and OpenCV.")] = 1,
    output: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    import cv2

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    table = Table(title=f"Microseconds per image, median of {rounds} rounds, {threads} thread(s)")
    for column in ("size", "what", "µs", "ratio to the peer"):
        table.add_column(column)
    figures = []
    for size in (112, 224):
        data = samples(faces, size)
        with tempfile.TemporaryDirectory() as cache:
            warm = alternate(pipeline_runs(data, size, cache), rounds)
        for runs in (warm, alternate(cold_runs(data), rounds)):
            peer = next(iter(runs))
            for name, times in runs.items():
                ratio = float(np.median(times / runs[peer]))
                table.add_row(str(size), name, f"{np.median(times):.0f}", f"{ratio:.3f}")
                figures.append(
                    {"size": size, "what": name, "us": float(np.median(times)), "ratio": ratio}
                )
    Console().print(table)
    if output:
        output.write_text(json.dumps({"threads": threads, "rows": figures}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
