"""Real faces with labels, as the recipes that fit latent synthesizers take them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.datasets import open_source
from expraug.expressions import Expression
from recipes.fer_classifier.train import prepared


@dataclass
class LabelledFaces:
    """Real faces, N of them.

    Args:
        faces: (N, 1, S, S) uint8.
        labels: (N,) long, values of `Expression`.
        named: (N,) bool, whether they come from a set that names its people.
    """

    faces: Tensor
    labels: Tensor
    named: Tensor

    def grey(self, index: Tensor | slice) -> Tensor:
        """Return faces at an index, float in [0, 1]."""
        return self.faces[index].float() / 255


def gather(work: Path, sets: list[str], half: int, size: int) -> LabelledFaces:
    """Return the training faces of one half, as `fer_classifier/train.py` aligned them."""
    parts = [prepared(work, name, half, "train", size) for name in sets]
    names = [open_source(name.partition("@")[0])[0].identity is not None for name in sets]
    faces = torch.cat([p["faces"] for p in parts])
    named = [torch.full((len(p["labels"]),), n) for p, n in zip(parts, names, strict=True)]
    return LabelledFaces(faces, torch.cat([p["labels"] for p in parts]), torch.cat(named))


def sources_of(data: LabelledFaces, target: Expression, seed: int, most: int) -> Tensor:
    """Return the places of some faces that a target is made of: neutral ones of named people."""
    wanted = data.labels != int(Expression.NEUTRAL)
    if target != Expression.NEUTRAL:
        wanted = ~wanted
    if (wanted & data.named).any():
        wanted = wanted & data.named
    there = wanted.nonzero().flatten().numpy()
    drawn = np.random.default_rng(seed).permutation(there)[:most]
    return torch.from_numpy(drawn)
