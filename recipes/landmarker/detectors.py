"""Compare the detectors for photographs: MTCNN and BlazeFace with the face mesh behind it.

    python -m recipes.landmarker.detectors --data LFW.parquet:300 --data LONDON.parquet:60 \\
        --data FER2013.parquet:300

For each set: the share of images in which a face is found; the distance between the eye centres
that the two find, as a share of the distance between the eyes (no one knows the truth, but where
they agree both are likely right); and images per second of CPU time, in one thread.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from expraug.faces.detect import DetectedFace, Detector, MTCNNDetector
from expraug.faces.image import to_array
from expraug.faces.landmarks import LandmarkDetector


def found_by(
    detector: Detector, images: list[np.ndarray]
) -> tuple[list[DetectedFace | None], float]:
    """Return what a detector finds, and its images per second of CPU time."""
    detector(images[:1])  # loads the nets
    begun = time.process_time()
    faces = [detector([image])[0] for image in images]
    return faces, len(images) / (time.process_time() - begun)


def main(data: Annotated[list[str], typer.Option(help="FILE:NUMBER; several.")]) -> None:
    torch.set_num_threads(1)
    table = Table()
    for column in ("set", "images", "found: MTCNN", "BlazeFace", "both", "eyes apart, median",
                   "99 %", "images per second: MTCNN", "BlazeFace"):  # fmt: skip
        table.add_column(column)
    for entry in data:
        file, _, number = entry.rpartition(":")
        column = pq.read_table(file, columns=["image"])["image"]
        rows = np.linspace(0, len(column) - 1, min(int(number), len(column))).astype(int)
        images = []
        for row in rows.tolist():
            with Image.open(io.BytesIO(column[row].as_py()["bytes"])) as picture:
                images.append(to_array(picture))
        one, speed = found_by(MTCNNDetector(), images)
        other, other_speed = found_by(LandmarkDetector("detect"), images)
        both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
        apart = [
            np.linalg.norm(a.points[:2] - b.points[:2], axis=1).max()
            / np.linalg.norm(b.points[0] - b.points[1])
            for a, b in both
        ]
        counts = [sum(f is not None for f in found) / len(images) for found in (one, other)]
        table.add_row(
            Path(file).parent.name,
            str(len(images)),
            f"{counts[0]:.3f}",
            f"{counts[1]:.3f}",
            f"{len(both) / len(images):.3f}",
            f"{np.median(apart):.3f}",
            f"{np.quantile(apart, 0.99):.2f}",
            f"{speed:.0f}",
            f"{other_speed:.0f}",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    typer.run(main)
