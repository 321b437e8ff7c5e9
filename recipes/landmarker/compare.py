"""Compare the torch landmarker with MediaPipe's, from picture to landmarks.

    python -m recipes.landmarker.compare face_landmarker.task --data LFW.parquet:500:detect \\
        --data LONDON.parquet:60:detect --data FER2013.parquet:1000:crop [--sheet SHEET.png]

Each set is FILE:NUMBER:MODE; the images are spread over the file. Landmark errors are the mean over
the 478, in pixels of a face crop of 256. Both look at the same framings, in one thread each.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import mediapipe
import numpy as np
import pyarrow.parquet as pq
import torch
import typer
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from expraug.faces.image import to_array
from expraug.faces.landmarks import LandmarkDetector, _fit

CROP = 1.5
"""A crop's side against the extent of the landmarks."""


class Found(NamedTuple):
    """What MediaPipe finds: (478, 2) landmarks in pixels of the image, (52,) scores, (3,) pose."""

    mesh: np.ndarray
    scores: np.ndarray
    pose: np.ndarray


def mediapipe_detector(task: Path, mode: str) -> Callable[[np.ndarray], Found | None]:
    """Return MediaPipe's landmarker on the framings of `LandmarkDetector`."""
    options = FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=4,
        min_face_detection_confidence=0.3,
        min_face_presence_confidence=0.3,
    )
    landmarker = FaceLandmarker.create_from_options(options)

    def detect(image: np.ndarray) -> Found | None:
        group = _fit([image], [0], torch.device("cpu"))
        for share in (0.25, 0.5, 0.0) if mode == "crop" else (0.0, 0.25, 0.5):
            pad = int(share * max(group.pictures.shape[2:]))
            (picture,) = group.padded(pad).pictures.expand(-1, 3, -1, -1)
            framed = picture.permute(1, 2, 0).byte().contiguous().numpy()
            seen = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=framed)
            found = landmarker.detect(seen)
            if not found.face_landmarks:
                continue
            size = framed.shape[1::-1]
            meshes = [np.array([(p.x, p.y) for p in m]) * size for m in found.face_landmarks]
            best = int(np.argmax([np.prod(np.ptp(mesh, axis=0)) for mesh in meshes]))
            scores = np.array([c.score for c in found.face_blendshapes[best]])
            matrix = np.asarray(found.facial_transformation_matrixes[best])
            return Found((meshes[best] - pad) / group.ratio - 0.5, scores, _angles(matrix))
        return None

    return detect


def _angles(matrix: np.ndarray) -> np.ndarray:
    turn = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    yaw, pitch = np.arcsin(turn[0, 2].clip(-1, 1)), np.arctan2(-turn[1, 2], turn[2, 2])
    return np.degrees([yaw, pitch, np.arctan2(-turn[0, 1], turn[0, 0])])


def compare(task: Path, file: Path, number: int, mode: str) -> tuple[list[str], list[Any]]:
    """Return a row of the table, and the images on which the two differ most."""
    images = pq.read_table(file, columns=["image"])["image"]
    rows = np.linspace(0, len(images) - 1, min(number, len(images))).astype(int)
    theirs, ours = mediapipe_detector(task, mode), LandmarkDetector(mode)  # type: ignore[arg-type]
    errors, scores, poses, counts, differing = [], [], [], [0, 0, 0], []
    seconds = [0.0, 0.0]
    for row in rows.tolist():
        with Image.open(io.BytesIO(images[row].as_py()["bytes"])) as picture:
            image = to_array(picture)
        begun = time.perf_counter()
        one = theirs(image)
        between = time.perf_counter()
        (other,) = ours([image])
        seconds[0] += between - begun
        seconds[1] += time.perf_counter() - between
        counts[0] += one is not None
        counts[1] += other is not None
        if one is None or other is None or other.mesh is None:
            continue
        assert other.blendshapes is not None
        assert other.pose is not None
        side = np.ptp(one.mesh, axis=0).max() * CROP
        error = float(np.linalg.norm(one.mesh - other.mesh, axis=1).mean() * 256 / side)
        errors.append(error)
        scores.append(float(np.abs(one.scores - other.blendshapes).max()))
        poses.append(float(np.abs(one.pose - other.pose).max()))
        differing.append((error, image, one.mesh, other.mesh))
    far = np.array(errors)
    row_text = [
        f"{file.parent.name}, {mode}",
        str(len(rows)),
        f"{counts[0] / len(rows):.3f} : {counts[1] / len(rows):.3f}",
        f"{np.median(far):.2f}",
        f"{np.quantile(far, 0.99):.2f}",
        f"{(far <= 2).mean():.3f}",
        f"{np.median(scores):.3f}",
        f"{np.median(poses):.2f}",
        f"{len(rows) / seconds[0]:.0f} : {len(rows) / seconds[1]:.0f}",
    ]
    return row_text, sorted(differing, key=lambda d: -d[0])[:8]


def _draw(rows: list[Any], side: int = 256) -> Image.Image:
    sheet = Image.new("RGB", (2 * side * 4, side * -(-len(rows) // 4)))
    for k, (_, image, *meshes) in enumerate(rows):
        for j, mesh in enumerate(meshes):
            face = Image.fromarray(image).convert("RGB").resize((side, side))
            pen = ImageDraw.Draw(face)
            scale = np.array([side / image.shape[1], side / image.shape[0]])
            pen.point([tuple(p) for p in ((mesh + 0.5) * scale).tolist()], fill=(255, 0, 0))
            sheet.paste(face, ((k % 4 * 2 + j) * side, k // 4 * side))
    return sheet


def main(
    task: Path,
    data: Annotated[list[str], typer.Option(help="FILE:NUMBER:MODE; several.")],
    sheet: Annotated[Path | None, typer.Option(help="Draw what differs most.")] = None,
) -> None:
    torch.set_num_threads(1)
    table = Table()
    for column in (
        *("set", "images", "found, MediaPipe : torch", "median px", "99 % px", "within 2 px"),
        *("scores, median of largest", "pose, degrees", "images per second"),
    ):
        table.add_column(column)
    worst = []
    for entry in data:
        file, number, mode = entry.rsplit(":", 2)
        row, differing = compare(task, Path(file), int(number), mode)
        table.add_row(*row)
        worst += differing
    Console(width=160).print(table)
    if sheet is not None:
        _draw(worst).save(sheet)


if __name__ == "__main__":
    typer.run(main)
