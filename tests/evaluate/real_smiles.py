"""Real smiles, and what a bad synthesizer would make of them: the truth that measures must tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from expraug.evaluate import Bootstrap, Context
from expraug.evaluate.context import Sources, Synthetics
from expraug.evaluate.face_set import FaceSet, collect
from expraug.expressions import Expression
from expraug.faces.detect import create_detector
from expraug.faces.landmarks import read_aligned
from expraug.faces.warp import pixel_grid, warp
from expraug.networks.fer_classifier import load_fer_classifier

LIMIT = 80
_GRID = 32


@dataclass
class MadeOtherwise(Context):
    """A context in which what was made of the sources is given."""

    given: Synthetics | None = None

    def sources(self, target: Expression) -> Sources:
        assert self.given is not None
        return Sources(self.given.sources, "neutral")

    def synthetics(self, target: Expression, *_: object, **__: object) -> Synthetics:
        assert self.given is not None
        return self.given


@dataclass
class Smiles:
    """Photographs of people, neutral and smiling; one half is the real faces.

    Args:
        data: both photographs of everyone, without the smiles of the other half.
        sources: (N,) long, the neutral photographs of the other half in it.
        neutral, happy: (N, 3, 128, 128) uint8, both photographs of these.
        before, after: (N, 478, 2), their landmarks.
    """

    data: FaceSet
    sources: Tensor
    neutral: Tensor
    happy: Tensor
    before: Tensor
    after: Tensor

    def context(self, made: Tensor, **given: Any) -> Context:
        """Return a context in which these faces were made of the sources."""
        every = torch.ones(len(self.sources), dtype=torch.bool)
        settings: dict[str, Any] = {
            "augmenter": None,
            "data": self.data,
            "reference": None,
            "classifiers": (load_fer_classifier(),),
            "identity": None,
            "targets": (Expression.HAPPY,),
            "bootstrap": Bootstrap(self.data.people, rounds=200),
            "given": Synthetics(self.sources, made, every, ("",) * len(every)),
        }
        return MadeOtherwise(**settings | given)

    def doubled(self) -> Tensor:
        """Return the smiles once more as wide: moved again by what they moved."""
        return moved(self.happy, self.after, self.after - self.before)

    def one_for_all(self) -> Tensor:
        """Return neutral faces, all moved as the first one's smile moves it."""
        smile = (self.after - self.before)[:1]
        return moved(self.neutral, self.before, smile.expand(len(self.before), -1, -1))


def moved(faces: Tensor, points: Tensor, by: Tensor) -> Tensor:
    """Return (N, 3, S, S) uint8 faces whose (N, 478, 2) points are moved, as fractions."""
    places = (pixel_grid(_GRID, torch.zeros(1))[0].flatten(1).T.numpy() + 1) / 2
    flows = [
        RBFInterpolator((p + d).numpy(), -d.numpy(), neighbors=24, smoothing=1e-3)(places)
        for p, d in zip(points, by, strict=True)
    ]
    flow = torch.tensor(np.array(flows)).float().permute(0, 2, 1).unflatten(2, (_GRID, _GRID))
    return (warp(faces.float(), 2 * flow)).round().clamp(0, 255).to(torch.uint8)


def read_smiles(shared: Path) -> Smiles:
    """Read the London faces."""
    found = collect(
        [shared / "data" / "london_faces" / "train.parquet"],
        create_detector("detect"),
        split="all",
        limit=LIMIT,
    )
    neutral, happy = (
        {found.people[i]: i for i in found.of(e).tolist()}
        for e in (Expression.NEUTRAL, Expression.HAPPY)
    )
    both = sorted(neutral.keys() & happy.keys())
    real, others = both[::2], both[1::2]
    at = [neutral[p] for p in both] + [happy[p] for p in real]
    data = replace(
        found,
        faces=found.faces[at],
        labels=found.labels[at],
        people=found.who(torch.tensor(at)),
        items=[found.items[i] for i in at],
    )
    before, after = (found.faces[[which[p] for p in others]] for which in (neutral, happy))
    points = [read_aligned(part.float() / 255)[0].clone() for part in (before, after)]
    sources = torch.tensor([both.index(p) for p in others])
    return Smiles(data, sources, before, after, *points)
