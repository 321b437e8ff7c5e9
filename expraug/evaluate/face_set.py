"""The real faces that an evaluation works on: found, aligned and kept in memory, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xxhash
from torch import Tensor

from expraug.datasets import FaceItem, person_split
from expraug.datasets.source import FaceSource
from expraug.errors import ExpraugError, MissingDependencyError, MissingWeightsError, NoFaceError
from expraug.expand.checks import open_face_set
from expraug.expand.classes import class_expressions
from expraug.expand.options import SchemeLike
from expraug.expressions import Expression
from expraug.faces import align_image
from expraug.faces.detect import Detector

SPLITS = ("train", "validation", "test", "all")
SIZE = 128
"""Side of the aligned faces that everything is measured on, in pixels, whatever the synthesizer's
own. FER classifiers reduce it, identity encoders enlarge it a little."""


class TooFewFacesError(ExpraugError, ValueError):
    """Not enough faces for a figure to mean anything; the message says of what."""

    reason = "too_few_faces"


@dataclass
class FaceSet:
    """Aligned real faces.

    Args:
        name: of the set, for people.
        faces: (N, 3, S, S) uint8.
        labels: (N,) long, values of `Expression`.
        people: the N people they show: their names in the set, or else the stems of the files.
        items: the N images they came from.
        lost: images left out, by reason.
        named: whether the set says who is who.
        yaw: of the N heads, in degrees; nan where the detector does not say.
        side: shorter side of the N images, in pixels.
        sets: numbers of the sets that the N images came from, where there are several.
    """

    name: str
    faces: Tensor
    labels: Tensor
    people: list[str]
    items: list[FaceItem]
    lost: Counter[str] = field(default_factory=Counter)
    named: bool = False
    yaw: list[float] = field(default_factory=list)
    side: list[int] = field(default_factory=list)
    sets: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.people)

    def of(self, expression: Expression) -> Tensor:
        """Return the indices of the faces that show an expression."""
        return (self.labels == int(expression)).nonzero().flatten()

    def who(self, indices: Tensor) -> list[str]:
        """Return the people at these indices."""
        return [self.people[i] for i in indices.tolist()]


def collect(
    paths: Sequence[str | Path],
    detector: Detector,
    size: int = SIZE,
    *,
    split: str = "test",
    limit: int = 300,
    scheme: SchemeLike | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FaceSet:
    """Read, find and align the faces of labelled sets, each image once.

    People come in an order that their names' hashes give, each with all photographs, so that a
    limited set still holds several photographs of one person. Several sets take turns, a person
    each, so that the largest does not crowd out the others.

    Args:
        paths: folders with one sub-folder per class, or parquet files.
        detector: finds the faces.
        size: side S of the aligned faces, in pixels.
        split: "train", "validation", "test" or "all": whose faces are kept, by
            `expraug.datasets.person_split`. A set that does not say who is who is kept whole.
        limit: faces of each expression at most.
        scheme: what the classes mean, as `expand` takes it.
        progress: called with the number of faces found so far, and of those looked for.

    Raises:
        NoFaceError: no face is left; the message says where the images went.
        MissingDependencyError, MissingWeightsError: what the detector needs is not there.
        SourceError, LabelError: as `expand` does.
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    sources = [open_face_set(path) for path in paths]
    faces: list[Tensor] = []
    found = FaceSet(", ".join(_name(p) for p in paths), torch.empty(0), torch.empty(0), [], [])
    labels: list[int] = []
    counts: Counter[Expression] = Counter()
    candidates = sorted(_candidates(sources, split, scheme), key=lambda c: c.turn)
    there = Counter(candidate.expression for candidate in candidates)
    wanted = sum(min(count, limit) for count in there.values())
    for turn, expression, number, row in candidates:
        if counts[expression] >= limit:
            continue
        item = sources[number][row]
        try:
            image = item.read()
            (face,) = detector([image])
            if face is None:
                raise NoFaceError(item.origin)
        except (MissingDependencyError, MissingWeightsError):
            raise  # it is not the images that lack something
        except ExpraugError as error:
            found.lost[error.reason] += 1
            continue
        counts[expression] += 1
        faces.append(aligned(image, face.points, size))
        labels.append(int(expression))
        found.people.append(turn.person)
        found.sets.append(number)
        found.items.append(item)
        found.yaw.append(float("nan") if face.pose is None else float(face.pose[0]))
        found.side.append(min(image.shape[:2]))
        found.named |= item.identity is not None
        progress(len(faces), wanted)
    if not faces:
        raise NoFaceError(f"{found.name}: no face of split {split!r} is left; {_why(found)}")
    found.faces, found.labels = torch.stack(faces), torch.tensor(labels)
    return found


def aligned(image: np.ndarray, points: np.ndarray, size: int = SIZE) -> Tensor:
    """Return the face of an image, (H, W) or (H, W, 3) uint8, aligned: (3, size, size) uint8."""
    return align_image(image, points, size).round().clamp(0, 255).to(torch.uint8)


def _why(found: FaceSet) -> str:
    """Return why a set has no face, and what to do."""
    if not found.lost:
        return "nobody in it belongs to that split. split='all' (--split all) takes everyone"
    lost = ", ".join(f"{count} images: {reason}" for reason, count in found.lost.items())
    if set(found.lost) == {NoFaceError.reason}:
        return f"{lost}. If they are face crops already, use alignment='crop' (--alignment crop)"
    return lost


class _Turn(NamedTuple):
    """When an image comes: with its person, who comes at some place of the set's own order."""

    place: int
    hashed: int
    person: str
    row: int


class _Candidate(NamedTuple):
    turn: _Turn
    expression: Expression
    set_number: int
    row: int


def _candidates(
    sources: Sequence[FaceSource], split: str, scheme: SchemeLike | None
) -> list[_Candidate]:
    found: list[_Candidate] = []
    for number, source in enumerate(sources):
        means = class_expressions(source.classes, scheme)
        kept: list[tuple[int, str, int, Expression]] = []
        for index in range(len(source)):
            item = source[index]
            expression = means.get(item.class_name)
            known = item.identity is not None
            if expression is None:
                continue
            if known and split != "all" and person_split(str(item.identity)) != split:
                continue
            person = str(item.identity) if known else item.stem
            kept.append((xxhash.xxh32_intdigest(person.encode()), person, index, expression))
        places = {who: place for place, who in enumerate(sorted({k[:2] for k in kept}))}
        for hashed, person, index, expression in kept:
            turn = _Turn(places[hashed, person], hashed, person, index)
            found.append(_Candidate(turn, expression, number, index))
    return found


def _name(path: str | Path) -> str:
    path = Path(path)
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name
