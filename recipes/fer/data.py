"""Real faces to train and test on: where each image is, where the face is in it, and what a net
sees of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from expraug.cache import SynthesisCache, image_digest
from expraug.errors import ExpraugError
from expraug.expressions import Expression
from expraug.faces import align, similarity
from expraug.faces.composite import luminance
from expraug.faces.detect import CropDetector, create_detector
from expraug.networks.class_index import class_index
from expraug.pipeline.memo import MemoizedDetector
from recipes.fer.source import LabelledImages, open_images, state

SIDE = 64
"""Side of what nets see, in pixels; FER2013 has not more detail."""
CACHE = "cache"
"""Folder in the work folder: detected and synthetic faces, as `SynthesisCache` keeps them."""
_SAVED = ("pixels", "labels", "digests", "points", "found", "rows")
_BATCH = 64


@dataclass
class FaceTable:
    """Faces of one set, N of them: what a net sees of each, and where its image is.

    Args:
        pixels: (N, 64, 64) uint8, `net_input` of the image.
        labels: (N,) long, values of `Expression`.
        people: N names; "" where the set names nobody.
        digests: (N, 16) uint8, `image_digest` of the image: equal images have equal ones.
        points: (N, 5, 2) float32 pixel coordinates that the face is aligned by.
        found: (N,) bool, whether the detector found the face; where not, it is aligned as a usual
            crop is.
        rows: (N,) long, of `images`.
        images: the set itself.
        alignment: "crop" or "detect": what its images are.
    """

    pixels: Tensor
    labels: Tensor
    people: list[str]
    digests: Tensor
    points: Tensor
    found: Tensor
    rows: Tensor
    images: LabelledImages
    alignment: str = "crop"

    def __len__(self) -> int:
        return len(self.people)

    def take(self, index: Tensor) -> FaceTable:
        """Return the faces at an index or a mask."""
        index = index.nonzero().flatten() if index.dtype == torch.bool else index
        parts = {name: getattr(self, name)[index] for name in _SAVED}
        return replace(self, people=[self.people[i] for i in index.tolist()], **parts)

    def of(self, classes: Sequence[Expression]) -> FaceTable:
        """Return the faces that show one of these expressions."""
        return self.take(torch.isin(self.labels, torch.tensor([int(c) for c in classes])))

    def counts(self) -> dict[str, int]:
        """Return the number of faces of each expression that there is."""
        found = torch.bincount(self.labels, minlength=len(Expression)).tolist()
        return {str(e): found[e] for e in Expression if found[e]}

    def digest(self, face: int) -> bytes:
        """Return the digest of a face's image."""
        return bytes(self.digests[face].numpy())

    def image_keys(self) -> list[bytes]:
        """Return the digest of each image."""
        return [bytes(row) for row in self.digests.numpy()]

    def image(self, face: int) -> np.ndarray:
        """Read the original image of a face: (H, W) or (H, W, 3) uint8."""
        return self.images.read(int(self.rows[face]))


def net_input(image: np.ndarray, points: np.ndarray) -> Tensor:
    """Return what a net sees of an image, real or synthetic: its face, aligned, grey.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        points: (5, 2) pixel coordinates of the face; a synthetic is aligned by its source's.

    Returns:
        (64, 64) uint8.
    """
    pixels = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].float()
    face = align(pixels, similarity(points[None].astype(np.float64)), SIDE)
    grey = luminance(face) if face.shape[1] == 3 else face
    return grey[0, 0].round().clamp(0, 255).to(torch.uint8)


def open_cache(work: Path) -> SynthesisCache:
    """Return the cache in a work folder; that what is looked up is new to it is no surprise."""
    return SynthesisCache(work / CACHE, encoding="png", warn_after=None)


def read_faces(
    source: str,
    work: Path,
    alignment: str = "crop",
    scheme: str | None = None,
    landmarks: bool = True,
    limit: int | None = None,
    workers: int = 1,
) -> FaceTable:
    """Read a labelled set, find and align its faces, and keep the result in the work folder.

    Args:
        source, scheme: as `open_images` takes them.
        work: folder for the result, which is found again by the name, size and date of the source.
        alignment: "crop" (face crops) or "detect" (photographs).
        landmarks: look for landmarks, which `transfer` and good alignment need; else the faces are
            aligned as `alignment` says alone.
        limit: only so many images, evenly spread, for a trial.
        workers: processes that look for faces.

    Raises:
        FileNotFoundError, ValueError, LabelError: as `open_images`.
    """
    described = f"{state(source)}|{alignment}|{scheme}|{landmarks}|{limit}|{SIDE}|rows"
    file = work / f"faces-{xxhash.xxh3_64_hexdigest(described.encode())}.safetensors"
    images = open_images(source, scheme)
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        tensors = _tabulate_all(images, scheme, work, alignment, landmarks, limit, workers)
        part = file.with_suffix(".part")
        save_file(tensors, part, {"source": json.dumps(source)})
        part.replace(file)
    with safe_open(file, "pt") as saved:
        tensors = {name: saved.get_tensor(name) for name in _SAVED}
    people = [images.people[row] for row in tensors["rows"].tolist()]
    return FaceTable(people=people, images=images, alignment=alignment, **tensors)


def _tabulate_all(
    images: LabelledImages,
    scheme: str | None,
    work: Path,
    alignment: str,
    landmarks: bool,
    limit: int | None,
    workers: int,
) -> dict[str, Tensor]:
    rows = [row for row, shown in enumerate(images.expressions) if shown is not None]
    if not rows:
        raise ValueError(f"{images.name}: no image of a class that means an expression")
    if limit is not None and limit < len(rows):
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, limit).astype(int)]
    work_on = partial(
        _tabulate,
        source=images.name,
        scheme=scheme,
        work=work,
        alignment=alignment,
        landmarks=landmarks,
    )
    chunks = [rows[i : i + 500] for i in range(0, len(rows), 500)]
    if workers == 1:
        parts = [work_on(chunk) for chunk in chunks]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            parts = list(pool.map(work_on, chunks))
    return {name: torch.cat([part[name] for part in parts]) for name in _SAVED}


def _tabulate(
    rows: Sequence[int],
    source: str,
    scheme: str | None,
    work: Path,
    alignment: str,
    landmarks: bool,
) -> dict[str, Tensor]:
    """Find and align the faces of some rows of a source."""
    images, cache = open_images(source, scheme), open_cache(work)
    detector = MemoizedDetector(create_detector(alignment) if landmarks else CropDetector(), cache)
    made: dict[str, list[Tensor]] = {name: [] for name in _SAVED}
    for start in range(0, len(rows), _BATCH):
        read = _readable(images, rows[start : start + _BATCH])
        pixels = list(read.values())
        digests = [image_digest(image) for image in pixels]
        faces = detector(pixels, digests)
        detector.forget()
        # a test image counts, whether its face was found or not
        usual = CropDetector()(pixels) if pixels else []
        for row, digest, face, crop in zip(read, digests, faces, usual, strict=True):
            place = face or crop
            shown = images.expressions[row]
            assert place is not None
            assert shown is not None
            made["pixels"].append(net_input(read[row], place.points))
            made["labels"].append(torch.tensor(int(shown)))
            made["digests"].append(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
            made["points"].append(torch.tensor(place.points))
            made["found"].append(torch.tensor(face is not None))
            made["rows"].append(torch.tensor(row))
    return {name: torch.stack(v) if v else _NONE[name] for name, v in made.items()}


_NONE = {
    "pixels": torch.empty(0, SIDE, SIDE, dtype=torch.uint8),
    "labels": torch.empty(0, dtype=torch.long),
    "digests": torch.empty(0, 16, dtype=torch.uint8),
    "points": torch.empty(0, 5, 2),
    "found": torch.empty(0, dtype=torch.bool),
    "rows": torch.empty(0, dtype=torch.long),
}


def _readable(images: LabelledImages, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """Return the images of the rows that can be decoded; the others are told of."""
    read = {}
    for row in rows:
        try:
            read[row] = images.read(row)
        except ExpraugError as error:
            print(f"left out: {images.name}, row {row}: {error}", flush=True)
    return read


def with_labels(table: FaceTable, classes: Sequence[Expression]) -> FaceTable:
    """Return the faces of these classes, with labels counted in their order."""
    kept = table.of(classes)
    return replace(kept, labels=class_index(classes)[kept.labels])
