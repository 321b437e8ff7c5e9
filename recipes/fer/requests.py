"""What is asked of the faces of a training fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from expraug.expressions import Expression
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest
from recipes.fer.data import FaceTable


@dataclass(frozen=True)
class Plan:
    """What to make.

    Args:
        synthesizer: name, folder or hub id; with ":own" behind it, the exemplars are faces of the
            training fold alone (`transfer` can).
        targets: expressions to make; none given means every class.
        ratio: candidates for each real face; the gate passes some of them.
        intensities: sampled from, as likely as each other.
        seed: of the sampling.
    """

    synthesizer: str = "transfer"
    targets: tuple[str, ...] = ()
    ratio: float = 5.0
    intensities: tuple[float, ...] = (0.6, 0.8, 1.0)
    seed: int = 0


FaceRequest = tuple[int, SynthesisRequest]
"""A face, by its index in a table, and what is asked of it."""


def sample_requests(
    plan: Plan, faces: FaceTable, classes: Sequence[Expression], augmenter: ExpressionAugmenter
) -> list[FaceRequest]:
    """Return what is asked of the faces: as many requests of each class, those of a face together.

    Sources are drawn evenly from those that show another expression and that the synthesizer
    supports for the target. A face is asked for the same thing once.
    """
    model, generator = augmenter.synthesizer, torch.Generator().manual_seed(plan.seed)
    needs = augmenter.detector.landmarks
    usable = faces.found if needs else torch.ones_like(faces.found)
    asked = [Expression.parse(t) for t in plan.targets] or list(classes)
    targets = [c for c in classes if c in asked and c in model.expressions]
    each = round(plan.ratio * len(faces) / max(1, len(targets)))
    sampled: dict[FaceRequest, None] = {}
    for target in targets:
        supported = [int(e) for e in classes if model.supports(e, target)]
        there = (usable & torch.isin(faces.labels, torch.tensor(supported))).nonzero().flatten()
        if not len(there):
            continue
        rounds = -(-each // len(there))
        order = torch.cat([torch.randperm(len(there), generator=generator) for _ in range(rounds)])
        levels = torch.randint(len(plan.intensities), (each,), generator=generator).tolist()
        variants = torch.randint(model.variants, (each,), generator=generator).tolist()
        for source, level, variant in zip(
            there[order[:each]].tolist(), levels, variants, strict=True
        ):
            request = SynthesisRequest(target, plan.intensities[level], variant)
            sampled[source, request] = None
    return sorted(sampled, key=lambda pair: pair[0])
