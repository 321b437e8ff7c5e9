"""How the fitted synthesizer does on validation people, by the classifier that was kept apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.synthesizer import Synthesizer
from recipes.transfer.classify import CLASSES, probabilities, recalls, small
from recipes.transfer.extract import FER2013, Faces
from recipes.transfer.polish import measured


def report(
    model: Synthesizer,
    classifier: nn.Module,
    encoder: Callable[[Tensor], Tensor],
    threshold: float,
    sets: list[Faces],
    count: int = 60,
) -> None:
    """Print recall, its ratio to that of real faces, and identity, for each expression.

    Real faces are LFW's validation people and half 0 of FER2013, neither of which the classifier
    has seen; sources are neutral validation people of the named sets.
    """
    real = [
        f.take(
            np.flatnonzero(f.half == 0)
            if (f.origin == FER2013).all()
            else np.flatnonzero(f.split == "validation")
        )
        for f in sets
    ]
    pixels, labels = zip(*(small(f) for f in real), strict=True)
    of_real = recalls(probabilities(classifier, torch.cat(pixels)), torch.cat(labels))
    parts = [f.take(np.flatnonzero(f.expression == 0)[:count]) for f in real[:2]]
    faces = torch.cat([f.tensor() for f in parts])
    known = [measured(f) for f in parts]
    together = {name: torch.cat([k[name] for k in known]) for name in known[0]}
    with torch.no_grad():
        persons = encoder(faces)
        for e in Expression:
            target = torch.full((len(faces),), int(e))
            made = model(faces, target, torch.ones(len(faces)), **together)
            cosine = (encoder(made) * persons).sum(1)
            line = f"  {e}: verified {float((cosine > threshold).float().mean()):.3f}"
            if e < CLASSES:
                recall = recalls(probabilities(classifier, made), target)[int(e)]
                line += f", recall {recall:.3f}, of real faces {of_real[int(e)]:.3f}"
                if of_real[int(e)] > 0:
                    line += f", ratio {recall / of_real[int(e)]:.2f}"
            print(line, flush=True)
