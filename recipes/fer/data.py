"""Real faces to train and test on: read from any source, aligned once, kept as small tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from expraug.cache import image_digest
from expraug.datasets import open_source
from expraug.errors import ExpraugError, MissingDependencyError, MissingWeightsError
from expraug.expand.plan import class_expressions
from expraug.expressions import Expression
from expraug.faces import align, similarity
from expraug.faces.align import invert
from expraug.faces.composite import luminance
from expraug.faces.detect import CropDetector, DetectedFace, Detector, create_detector
from expraug.networks.class_index import class_index

SIDE = 64
"""Side of the aligned faces, in pixels; FER2013 has not more detail."""
_SAVED = ("pixels", "labels", "digests", "mesh", "scores", "pose", "found")


@dataclass
class FaceTable:
    """Aligned grey faces of one or several sets, with what is known of each.

    Args:
        pixels: (N, 64, 64) uint8.
        labels: (N,) long, values of `Expression`.
        people: N names; "" where the set names nobody.
        digests: (N, 16) uint8, hash of the decoded image: equal images have equal ones.
        mesh: (N, 478, 2) float16 landmarks in the canonical frame.
        scores: (N, 52) float16 blendshape scores.
        pose: (N, 3) float16 yaw, pitch and roll in degrees.
        found: (N,) bool, whether landmarks were found; where not, the three above hold zeros and
            the face was aligned as a usual crop is.
    """

    pixels: Tensor
    labels: Tensor
    people: list[str]
    digests: Tensor
    mesh: Tensor
    scores: Tensor
    pose: Tensor
    found: Tensor

    def __len__(self) -> int:
        return len(self.people)

    def take(self, index: Tensor) -> FaceTable:
        """Return the faces at an index or a mask."""
        index = index.nonzero().flatten() if index.dtype == torch.bool else index
        parts = {name: getattr(self, name)[index] for name in _SAVED}
        return FaceTable(people=[self.people[i] for i in index.tolist()], **parts)

    def of(self, classes: Sequence[Expression]) -> FaceTable:
        """Return the faces that show one of these expressions."""
        return self.take(torch.isin(self.labels, torch.tensor([int(c) for c in classes])))

    def counts(self) -> dict[str, int]:
        """Return the number of faces of each expression that there is."""
        found = torch.bincount(self.labels, minlength=len(Expression)).tolist()
        return {str(e): found[e] for e in Expression if found[e]}

    def image_keys(self) -> list[bytes]:
        """Return the hash of each image as bytes."""
        return [bytes(row) for row in self.digests.numpy()]


def concatenate(tables: Sequence[FaceTable]) -> FaceTable:
    """Return several tables as one."""
    parts = {name: torch.cat([getattr(t, name) for t in tables]) for name in _SAVED}
    return FaceTable(people=[p for t in tables for p in t.people], **parts)


def read_faces(
    source: str,
    work: Path,
    faces: str = "crop",
    scheme: str | None = None,
    landmarks: bool = True,
    limit: int | None = None,
    workers: int = 1,
) -> FaceTable:
    """Read a labelled set, align its faces, and keep the result in the work folder.

    Args:
        source: a parquet file; a folder with one sub-folder a class; the folder above torchvision's
            `FER2013`, followed by ":train" or ":test"; or the name of a `datasets` data set,
            followed by ":split".
        work: folder for the result, which is found again by the name, size and date of the source.
        faces: "crop" (face crops) or "detect" (photographs).
        scheme: what the classes mean, as `expraug expand --scheme` takes it.
        landmarks: look for landmarks, which `transfer` and good alignment need; else the faces are
            aligned as `faces` says alone.
        limit: only so many images, evenly spread, for a trial.
        workers: processes that look for landmarks.

    Raises:
        FileNotFoundError, ValueError: no such set, or none of its classes means an expression.
        MissingDependencyError, MissingWeightsError: what finds landmarks is not there.
    """
    state = _state(source)
    name = xxhash.xxh3_64_hexdigest(f"{state}|{faces}|{scheme}|{landmarks}|{limit}|{SIDE}".encode())
    file = work / f"faces-{name}.safetensors"
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        table = _align_all(list(_rows(source, scheme)), faces, landmarks, limit, workers)
        part = file.with_suffix(".part")
        tensors = {n: getattr(table, n).contiguous() for n in _SAVED}
        save_file(tensors, part, {"people": json.dumps(table.people), "source": source})
        part.replace(file)
    with safe_open(file, "pt") as saved:
        people = json.loads(saved.metadata()["people"])
        return FaceTable(people=people, **{n: saved.get_tensor(n) for n in _SAVED})


def _state(source: str) -> str:
    path = Path(source)
    if not path.exists():
        return source
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    listed = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return f"{path.name}|{xxhash.xxh3_64_hexdigest(repr(listed).encode())}"


@dataclass(frozen=True)
class _Row:
    image: np.ndarray
    expression: Expression
    person: str


def _rows(source: str, scheme: str | None) -> Iterator[_Row]:
    path, _, split = source.rpartition(":")
    if Path(source).exists():
        items = open_source(source)
        means = class_expressions(items.classes, scheme)
        for index in range(len(items)):
            item = items[index]
            expression = means.get(item.class_name)
            if expression is None:
                continue
            try:
                yield _Row(item.read(), expression, item.identity or "")
            except ExpraugError as error:
                print(f"left out: {item.origin}: {error}", flush=True)
    elif Path(path).is_dir():
        yield from _torchvision_rows(path, split)
    elif path:
        yield from _hub_rows(path, split, scheme)
    else:
        raise FileNotFoundError(
            f"{source}: no such parquet file or folder; torchvision's FER2013 is FOLDER:train, a "
            f"data set of the `datasets` library is NAME:split"
        )


def _torchvision_rows(root: str, split: str) -> Iterator[_Row]:
    from torchvision.datasets import FER2013

    means = class_expressions([str(i) for i in range(7)], "fer2013")
    for image, label in FER2013(root, split=split):
        expression = means[str(int(label))]
        assert expression is not None
        yield _Row(np.asarray(image), expression, "")


def _hub_rows(name: str, split: str, scheme: str | None) -> Iterator[_Row]:
    from datasets import load_dataset

    from expraug.datasets.source import IMAGE_COLUMNS, LABEL_COLUMNS, PERSON_COLUMNS

    data = load_dataset(name, split=split)
    image, label, person = (
        next((c for c in wanted if c in data.features), None)
        for wanted in (IMAGE_COLUMNS, LABEL_COLUMNS, PERSON_COLUMNS)
    )
    if image is None or label is None:
        raise ValueError(f"{name}: no image or label column; it has {', '.join(data.features)}")
    names = getattr(data.features[label], "names", None) or sorted({str(v) for v in data[label]})
    means = class_expressions(names, scheme)
    for row in data:
        value = row[label]
        expression = means.get(names[value] if isinstance(value, int) else str(value))
        if expression is not None:
            picture = row[image] if row[image].mode in ("L", "RGB") else row[image].convert("RGB")
            yield _Row(np.asarray(picture), expression, str(row[person]) if person else "")


def _align_all(
    rows: list[_Row], faces: str, landmarks: bool, limit: int | None, workers: int
) -> FaceTable:
    if not rows:
        raise ValueError("no image of a class that means an expression")
    if limit is not None and limit < len(rows):
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, limit).astype(int)]
    try:
        _align_part(rows[:1], faces, landmarks)
    except (MissingDependencyError, MissingWeightsError) as error:
        raise type(error)(f"{error}; or go without landmarks: --no-landmarks") from error
    parts = [rows[i : i + 500] for i in range(0, len(rows), 500)]
    work = partial(_align_part, faces=faces, landmarks=landmarks)
    if workers == 1:
        return concatenate([work(part) for part in parts])
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return concatenate(list(pool.map(work, parts)))


def _align_part(rows: list[_Row], faces: str, landmarks: bool) -> FaceTable:
    detector: Detector = create_detector(faces, landmarks=landmarks)
    fallback = CropDetector()
    return concatenate([_align(row, detector, fallback) for row in rows])


def _align(row: _Row, detector: Detector, fallback: CropDetector) -> FaceTable:
    (location,) = detector([row.image])
    # a test image counts, whether its face was found or not
    place = location if location is not None else fallback([row.image])[0]
    assert place is not None
    matrix = similarity(place.points[None, :5].astype(np.float64))
    pixels = torch.from_numpy(np.atleast_3d(row.image)).permute(2, 0, 1)[None].float()
    face = align(pixels, matrix, SIDE)
    grey = luminance(face) if face.shape[1] == 3 else face
    known = place if place.mesh is not None else _NOTHING
    assert known.mesh is not None
    assert known.blendshapes is not None
    assert known.pose is not None
    inverse = invert(matrix)[0]
    mesh = (known.mesh.astype(np.float64) + 0.5) @ inverse[:, :2].T + inverse[:, 2]
    digest = np.frombuffer(image_digest(row.image), np.uint8)[:16].copy()
    return FaceTable(
        pixels=grey[0].round().clamp(0, 255).to(torch.uint8),
        labels=torch.tensor([int(row.expression)]),
        people=[row.person],
        digests=torch.from_numpy(digest)[None],
        mesh=torch.from_numpy(mesh).half()[None],
        scores=torch.from_numpy(np.asarray(known.blendshapes)).half()[None],
        pose=torch.from_numpy(np.asarray(known.pose)).half()[None],
        found=torch.tensor([known is not _NOTHING]),
    )


_NOTHING = DetectedFace(
    np.zeros((5, 2), np.float32),
    0,
    np.zeros((478, 2), np.float32),
    np.zeros(52, np.float32),
    np.zeros(3, np.float32),
)


def with_labels(table: FaceTable, classes: Sequence[Expression]) -> FaceTable:
    """Return the faces of these classes, with labels counted in their order."""
    kept = table.of(classes)
    return replace(kept, labels=class_index(classes)[kept.labels])


assert {f.name for f in fields(FaceTable)} == {*_SAVED, "people"}
