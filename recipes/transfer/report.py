"""How the fitted synthesizer does on validation people, by the classifier that was kept apart.

Synthetic faces are made by the pipeline that users have, of aligned faces as of any crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.expressions import Expression
from expraug.faces import create_detector
from expraug.pipeline.memo import MemoizedDetector
from expraug.synthesizer import Synthesizer
from recipes.real_faces import FER2013, Faces
from recipes.transfer.classify import CLASSES, probabilities, recalls, small


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
    crops = [f.crop[np.flatnonzero(f.expression == 0)[:count]] for f in real[:2]]
    images = [crop.transpose(1, 2, 0).squeeze() for part in crops for crop in part]
    augmenter = ExpressionAugmenter(model, alignment=MemoizedDetector(create_detector("crop")))
    with torch.no_grad():
        persons = encoder(as_faces(images))
        for e in Expression:
            outcomes = augmenter(images, [SynthesisRequest(e)] * len(images))
            changed = [i for i, outcome in enumerate(outcomes) if outcome.target is not None]
            if not changed:
                print(f"  {e}: none of {len(images)} faces changed", flush=True)
                continue
            made = as_faces([outcomes[i].image for i in changed])
            target = torch.full((len(made),), int(e))
            cosine = (encoder(made) * persons[changed]).sum(1)
            share = float((cosine > threshold).float().mean())
            line = f"  {e}: {len(made)} of {len(images)} faces, verified {share:.3f}"
            if e < CLASSES:
                recall = recalls(probabilities(classifier, made), target)[int(e)]
                line += f", recall {recall:.3f}, of real faces {of_real[int(e)]:.3f}"
                if of_real[int(e)] > 0:
                    line += f", ratio {recall / of_real[int(e)]:.2f}"
            print(line, flush=True)


def as_faces(images: Sequence[np.ndarray]) -> Tensor:
    """Return (H, W) or (H, W, 3) uint8 images of one size as (N, 3, H, W) float in [0, 1]."""
    faces = [torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1) for image in images]
    return torch.stack([face.expand(3, -1, -1) for face in faces]).float() / 255
