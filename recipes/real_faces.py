"""Real faces of the training sets: pixels, landmarks, scores, pose, labels and votes.

    python -m recipes.real_faces DATA --work work/real_faces

DATA is a folder with `fer2013/train.parquet`, `fer2013/validation.parquet`,
`lfw_expressions/train.parquet` and `london_faces/train.parquet`. Every recipe that learns from real
faces reads them here, so a face is looked for once; interrupted work goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import torch
import typer
from torch import Tensor

from expraug.datasets import open_source, person_split
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
FILES = {
    LONDON: ("london_faces/train.parquet",),
    LFW: ("lfw_expressions/train.parquet",),
    FER2013: ("fer2013/train.parquet", "fer2013/validation.parquet"),
}
PART = 1000
"""Images extracted between two saves."""
_VOTED = "neutral happy surprise sad angry disgust fear contempt"
VOTED = tuple(map(Expression.parse, _VOTED.split()))
"""The first columns of FER+'s votes; "unknown" and "not a face" follow."""
LABEL_NOISE = 0.1
"""Share of a label that goes to the other expressions where only one annotator was asked."""
BALANCE = 0.4
"""A class with n faces is drawn in proportion to n to this power."""


@dataclass
class Faces:
    """Aligned faces, and what is known of them.

    Args:
        crop: (N, C, 128, 128) uint8; C is 3 or, for grey sets, 1.
        mesh: (N, 478, 2) float32 landmarks in canonical units.
        scores: (N, 52) float32 blendshape scores.
        pose: (N, 3) float32 yaw, pitch and roll in degrees.
        expression: (N,) the set's own label, a value of `Expression`.
        votes: (N, 8) float32, the share of the annotators for each `Expression`; where there was
            one label only, 1 for it. Rows may sum to less than 1: "unknown" and "not a face".
        origin: (N,) the set, an index into `SETS`.
        row: (N,) the row in the set's file.
        person: (N,) the person's name, "" where the set names nobody.
        split: (N,) "train", "validation" or "test".
        duplicate: (N,) bool, whether a near-identical image is among the training images.
        half: (N,) 0 or 1, a split of the training people by `recipes.splits`.
    """

    crop: np.ndarray
    mesh: np.ndarray
    scores: np.ndarray
    pose: np.ndarray
    expression: np.ndarray
    votes: np.ndarray
    origin: np.ndarray
    row: np.ndarray
    person: np.ndarray
    split: np.ndarray
    duplicate: np.ndarray
    half: np.ndarray

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def majority(self) -> np.ndarray:
        """(N,) the expression with most votes, a value of `Expression`; -1 where none has more
        than every other, or more than half of the votes are for no expression."""
        ordered = np.sort(self.votes, axis=1)
        clear = (ordered[:, -1] > ordered[:, -2]) & (ordered[:, -1] > 1 - self.votes.sum(1))
        return np.where(clear, self.votes.argmax(1), -1)

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


def extract(origin: int, path: Path, work: Path, limit: int | None = None) -> Faces:
    """Return the faces of a file; where the work folder holds them, or parts, those are used.

    Images without a face, and unreadable ones, are left out.

    Args:
        origin: the set, an index into `SETS`.
        path: parquet file, or folder with one sub-folder per class. A file "validation.parquet" of
            a set that names nobody is of the validation split.
        work: folder for what was found.
        limit: only so many images, evenly spread over the set.
    """
    name = f"{SETS[origin]}-{path.stem}"
    file = work / f"{name}.npz"
    if file.is_file():
        return Faces.load(file)
    work.mkdir(parents=True, exist_ok=True)
    detector = LandmarkDetector("crop" if origin == FER2013 else "detect")
    rows = np.arange(len(open_source(path)))
    if limit is not None and limit < len(rows):
        rows = np.linspace(0, len(rows) - 1, limit).astype(int)
    parts = []
    for start in range(0, len(rows), PART):
        part = work / f"{name}-{start:06d}.npz"
        if not part.is_file():
            _extract_rows(origin, path, rows[start : start + PART], detector).save(part)
        parts.append(Faces.load(part))
        found = sum(map(len, parts))
        print(f"{name}: {found} faces in {min(start + PART, len(rows))} images", flush=True)
    faces = concatenate(parts)
    faces.save(file)
    for part in work.glob(f"{name}-*.npz"):
        part.unlink()
    return faces


def _extract_rows(origin: int, path: Path, rows: np.ndarray, detector: LandmarkDetector) -> Faces:
    """Return the faces of some rows of a file."""
    source = open_source(path)
    half = half_of_rows(len(source))
    votes, duplicate = _votes(path)
    items, images = [], []
    for row in rows:
        try:
            images.append(source[int(row)].read())
        except ExpraugError:
            continue
        items.append((int(row), source[int(row)]))
    found: list[dict[str, object]] = []
    for (row, item), image, face in zip(items, images, detector(images), strict=True):
        if face is None or face.mesh is None:
            continue
        matrix = similarity(face.points[None].astype(np.float64))
        pixels = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].float()
        crop = align(pixels, matrix, SIZE)
        if origin != LONDON and crop.shape[1] == 3:  # the other sets are grey, or lend only that
            crop = luminance(crop)
        to_canonical = invert(matrix)[0]
        person = item.identity or ""
        expression = Expression.parse(item.class_name)
        of_file = "validation" if path.stem == "validation" else "train"
        found.append(
            {
                "crop": crop[0].round().clamp(0, 255).to(torch.uint8).numpy(),
                "mesh": (face.mesh + 0.5) @ to_canonical[:, :2].T + to_canonical[:, 2],
                "scores": face.blendshapes,
                "pose": face.pose,
                "expression": int(expression),
                "votes": np.eye(8)[int(expression)] if votes is None else votes[row],
                "origin": origin,
                "row": row,
                "person": person,
                "split": person_split(person) if person else of_file,
                "duplicate": bool(duplicate is not None and duplicate[row]),
                "half": int(half_of_person(person) if person else half[row]),
            }
        )
    kinds = dict.fromkeys(("mesh", "scores", "pose", "votes"), np.float32)
    names = [f.name for f in fields(Faces)]
    return Faces(**{n: np.array([f[n] for f in found], kinds.get(n)) for n in names})


def _votes(path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the shares of the votes, (rows, 8) in the order of `Expression`, and which rows are
    near-duplicates of training images; None where the file says nothing."""
    names = pq.read_schema(path).names if path.is_file() else []
    votes = duplicate = None
    if "votes" in names:
        counts = np.array(pq.read_table(path, columns=["votes"])["votes"].to_pylist(), np.float64)
        counts[counts <= 1] = 0  # FER+ (Barsoum et al. 2016) leaves single votes out
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        votes = np.zeros((len(shares), len(Expression)))
        votes[:, [int(e) for e in VOTED]] = shares[:, : len(VOTED)]
    if "duplicate_of" in names:
        column = pq.read_table(path, columns=["duplicate_of"])["duplicate_of"]
        duplicate = column.is_valid().to_numpy()
    return votes, duplicate


def training_faces(data: Path, work: Path, half: int | None) -> Faces:
    """Return the faces to learn from: of training people, with a vote for some expression.

    Args:
        data: folder of the sets.
        work: folder of what `extract` found.
        half: only these of `recipes.splits`; None takes both.
    """
    parts = [extract(FER2013, data / FILES[FER2013][0], work)]
    parts.append(extract(LFW, data / FILES[LFW][0], work))
    faces = concatenate(parts)
    keep = (faces.split == "train") & (faces.votes.sum(1) > 0.5)
    if half is not None:
        keep &= faces.half == half
    return faces.take(np.flatnonzero(keep))


def targets_of(faces: Faces) -> np.ndarray:
    """Return what a net is to say of each face, (N, 8) float32 in the order of `Expression`."""
    shares = faces.votes / faces.votes.sum(1, keepdims=True)
    alone = (faces.origin != FER2013)[:, None]
    softer = shares * (1 - LABEL_NOISE) + LABEL_NOISE / len(Expression)
    targets: np.ndarray = np.where(alone, softer, shares).astype(np.float32)
    return targets


def drawing_weights(faces: Faces) -> Tensor:
    """Return how often each face is drawn, (N,) float.

    Rare classes are drawn more often; within a class, small sets too: else the net would learn
    that a face from the set with few sad faces is not sad.
    """
    label = torch.from_numpy(faces.votes.argmax(1))
    cell = torch.from_numpy(faces.origin) * len(Expression) + label
    weight = torch.bincount(cell).float()[cell] ** -0.5
    total = torch.zeros(len(Expression)).index_add_(0, label, weight)
    size = torch.bincount(label, minlength=len(Expression)).float()
    return weight / total[label] * size[label] ** BALANCE


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    work: Annotated[Path, typer.Option(help="Keeps what is found.")] = Path("work/real_faces"),
) -> None:
    for origin in (FER2013, LFW, LONDON):
        for file in FILES[origin]:
            if (data / file).is_file():
                faces = extract(origin, data / file, work)
                print(f"{file}: {len(faces)} faces", flush=True)


if __name__ == "__main__":
    typer.run(main)
