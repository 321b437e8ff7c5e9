"""Choose the codes of examples that are a synthesizer's variants."""

from __future__ import annotations

import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.synthesizer import Synthesizer
from recipes.real_faces import Faces
from recipes.strength.instrument import Instrument, make, people_of

TRIED_PER_CODE = 2
"""Codes that are tried for each that is kept."""


def choose_codes(
    model: Synthesizer, tried: Tensor, instrument: Instrument, count: int
) -> list[dict[str, str]]:
    """Set the codes of a synthesizer to those by which classifiers see the expressions best, and
    return the figures behind them.

    Neutral faces of validation people show each code. Of the mean probability of the target by
    each family of classifiers counts how near it comes to that in real faces, and no more than
    that: codes that show it more clearly than these please nets and look odd. Both families count
    by their product: a sad face that landmarks take for a smile is no sad face.

    Args:
        model: has `codes`, (E, V, C), and strengths.
        tried: (E, K, C), K at least V.
        instrument: looks at faces.
        count: faces that each code is tried on.
    """
    variants, lines = model.variants, []
    kept = model.get_buffer("codes").clone()
    model.codes, model.variants = tried.to(kept), tried.shape[1]
    for row, target in enumerate(model.expressions):
        if target == Expression.NEUTRAL:  # nothing varies
            kept[row] = tried[row, :variants]
            continue
        faces = each_with_all(instrument.sources(target, count), model.variants)
        seen = instrument.measure(make(model, faces, target), people_of(faces))
        share = seen.probabilities[:, :, int(target)].unflatten(1, (count, -1)).mean(1)
        near = (share / instrument.clarity(target)[:, None]).clamp(max=1).prod(0)
        # in the order in which they came: the first is what who asks for none gets, and should be
        # usual
        best = near.argsort(descending=True)[:variants].sort().values
        kept[row] = tried[row, best]
        line = {"": str(target), "all": f"{near.mean():.2f}", "kept": f"{near[best].mean():.2f}"}
        lines.append(line)
        print(line, flush=True)
    model.codes, model.variants = kept, variants
    return lines


def each_with_all(faces: Faces, variants: int) -> Faces:
    """Return each face so many times in a row, for each of the variants."""
    rows = torch.arange(len(faces)).repeat_interleave(variants)
    return faces.take(rows.numpy())
