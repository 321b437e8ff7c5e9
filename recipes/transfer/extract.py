"""Faces of the training sets: landmarks, blendshape scores, head pose and aligned crops."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.datasets import open_source, person_split
from expraug.datasets.source import FaceSource
from expraug.errors import ExpraugError
from expraug.expressions import Expression
from expraug.faces import align, similarity
from expraug.faces.align import invert
from expraug.faces.composite import luminance
from expraug.faces.landmarks import LandmarkDetector
from recipes.splits import half_of_person, half_of_rows

SIZE = 128
"""Side of the aligned faces, in pixels."""
SETS = ("london", "lfw", "fer2013")
"""Their places are the values of `Faces.origin`."""
LONDON, LFW, FER2013 = range(3)
PART = 1000
"""Images extracted between two saves."""


@dataclass
class Faces:
    """Aligned faces, and what was measured on them.

    Args:
        crop: (N, C, 128, 128) uint8; C is 3 or, for grey sets, 1.
        mesh: (N, 478, 2) float32 landmarks in canonical units.
        scores: (N, 52) float32 blendshape scores.
        pose: (N, 3) float32 yaw, pitch and roll in degrees.
        expression: (N,) the label, a value of `Expression`.
        origin: (N,) the set, an index into `SETS`.
        person: (N,) the person's name, "" where the set names nobody.
        split: (N,) "train", "validation" or "test".
        half: (N,) 0 lends exemplars, 1 is kept for the final classifier.
    """

    crop: np.ndarray
    mesh: np.ndarray
    scores: np.ndarray
    pose: np.ndarray
    expression: np.ndarray
    origin: np.ndarray
    person: np.ndarray
    split: np.ndarray
    half: np.ndarray

    def __len__(self) -> int:
        return len(self.expression)

    def take(self, index: np.ndarray) -> Faces:
        """Return the faces at an index or mask."""
        return Faces(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def tensor(self) -> Tensor:
        """Return the crops as (N, 3, 128, 128) float in [0, 1]."""
        return torch.from_numpy(self.crop).float().div(255).expand(-1, 3, -1, -1)

    def grey(self) -> Tensor:
        """Return the crops' luminance as (N, 1, 128, 128) uint8."""
        crop = torch.from_numpy(self.crop)
        if crop.shape[1] == 1:
            return crop
        return torch.cat([luminance(c.float()).round().to(torch.uint8) for c in crop.split(200)])

    def save(self, file: Path) -> None:
        part = file.with_suffix(".part.npz")
        np.savez(part, **{f.name: getattr(self, f.name) for f in fields(self)})
        part.replace(file)

    @classmethod
    def load(cls, file: Path) -> Faces:
        with np.load(file) as saved:
            return cls(**{name: saved[name] for name in saved.files})


def concatenate(parts: list[Faces]) -> Faces:
    """Return several sets as one; their crops become grey unless all are coloured."""
    if len({p.crop.shape[1] for p in parts}) > 1:
        parts = [p if p.crop.shape[1] == 1 else grey_set(p) for p in parts]
    joined = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Faces)}
    return Faces(**joined)


def grey_set(faces: Faces) -> Faces:
    """Return the faces with grey crops."""
    return replace(faces, crop=faces.grey().numpy())


def extract(
    origin: int, path: Path, detector: LandmarkDetector, work: Path, limit: int | None = None
) -> Faces:
    """Return the faces of a set; where the work folder holds them, or parts, those are used.

    Images without a face, and unreadable ones, are left out.

    Args:
        limit: only so many images, evenly spread over the set.
    """
    name = SETS[origin]
    file = work / f"{name}.npz"
    if file.is_file():
        return Faces.load(file)
    source = open_source(path)
    rows = np.arange(len(source))
    if limit is not None and limit < len(rows):
        rows = np.linspace(0, len(rows) - 1, limit).astype(int)
    parts = []
    for start in range(0, len(rows), PART):
        part = work / f"{name}-{start:06d}.npz"
        if not part.is_file():
            _extract_rows(origin, source, rows[start : start + PART], detector).save(part)
        parts.append(Faces.load(part))
        found = sum(map(len, parts))
        print(f"{name}: {found} faces in {min(start + PART, len(rows))} images", flush=True)
    faces = concatenate(parts)
    faces.save(file)
    for part in work.glob(f"{name}-*.npz"):
        part.unlink()
    return faces


def _extract_rows(
    origin: int, source: FaceSource, rows: np.ndarray, detector: LandmarkDetector
) -> Faces:
    """Return the faces of some rows of a set."""
    half = half_of_rows(len(source))[rows]
    found: list[dict[str, object]] = []
    for row, row_half in zip(rows, half, strict=True):
        item = source[int(row)]
        try:
            image = item.read()
        except ExpraugError:
            continue
        (location,) = detector([image])
        if location is None or location.mesh is None:
            continue
        matrix = similarity(location.points[None].astype(np.float64))
        pixels = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].float()
        crop = align(pixels, matrix, SIZE)
        if origin != LONDON and crop.shape[1] == 3:  # the other sets are grey, or lend only that
            crop = luminance(crop)
        to_canonical = invert(matrix)[0]
        person = item.identity or ""
        if person:
            row_half = half_of_person(person)
        found.append(
            {
                "crop": crop[0].round().clamp(0, 255).to(torch.uint8).numpy(),
                "mesh": (location.mesh + 0.5) @ to_canonical[:, :2].T + to_canonical[:, 2],
                "scores": location.blendshapes,
                "pose": location.pose,
                "expression": int(Expression.parse(item.class_name)),
                "origin": origin,
                "person": person,
                "split": person_split(person) if person else "train",
                "half": int(row_half),
            }
        )
    kinds = {"mesh": np.float32, "scores": np.float32, "pose": np.float32, "person": str}
    names = [f.name for f in fields(Faces)]
    return Faces(**{n: np.array([f[n] for f in found], kinds.get(n)) for n in names})
