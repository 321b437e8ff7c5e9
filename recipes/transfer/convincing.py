"""Which exemplars are seen for what they show once somebody else shows it.

Some expressions do not come across: a hand told them, the situation, or the one face that had them.
Each exemplar is lent to a few training people; the more both families of FER classifiers then see
the expression, the more convincing it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS, create_fer_classifier
from expraug.synthesizers.transfer import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import LendingFaces, bank_of
from recipes.real_faces import LFW, Faces
from recipes.transfer.deviation import inputs

MOST_CANDIDATES = 400
"""Exemplars of an expression that are tried."""
BORROWERS = 3
"""Neutral people whom each is lent to."""
LARGEST_YAW = 15
KEPT = {
    Expression.NEUTRAL: 0.5,
    Expression.HAPPY: 0.9,
    Expression.SAD: 0.35,
    Expression.SURPRISE: 0.9,
    Expression.FEAR: 0.42,
    Expression.DISGUST: 0.65,
    Expression.ANGRY: 0.8,
    Expression.CONTEMPT: 0.7,
}
"""Share of the exemplars of an expression that is kept, the most convincing first: of those that
come across well, nearly all, as real faces of a class are not all clear either."""
MOST = 256
"""Exemplars of an expression that are kept."""


def convincing(model: TransferSynthesizer, score: Tensor) -> LendingFaces:
    """Return the exemplars of a synthesizer that come across.

    Args:
        model: with all candidates.
        score: (R,), how convincing each is.
    """
    bank = bank_of(model)
    chosen = []
    for e in model.expressions:
        rows = (bank.expression == int(e)).nonzero()[:, 0]
        count = min(max(round(KEPT[e] * len(rows)), 1), MOST)
        chosen.append(rows[score[rows].argsort(descending=True, stable=True)[:count]])
    return bank.take(torch.cat(chosen))


@torch.inference_mode()
def believed(model: TransferSynthesizer, faces: Faces, seed: int = 0) -> Tensor:
    """Return how convincing each exemplar is, (R,): the mean, over borrowers, of the geometric mean
    of the probabilities that the two classifiers give its expression."""
    classifiers = [create_fer_classifier(name) for name in EMBEDDED_CLASSIFIERS]
    resting = (faces.origin == LFW) & (faces.expression == Expression.NEUTRAL)
    resting &= np.abs(faces.pose[:, 0]) < LARGEST_YAW
    rng = np.random.default_rng(seed)
    pool = rng.permutation(np.flatnonzero(resting))
    found = torch.zeros(len(model.shows))
    for row in range(len(model.shows)):
        some = faces.take(pool[(np.arange(BORROWERS) + row * BORROWERS) % len(pool)])
        source, count = some.tensor(), len(some)
        rows = torch.full((count,), row)
        unmirrored = torch.zeros(count, dtype=torch.bool)
        made = model.lend(source, torch.ones(count), rows, unmirrored, *inputs(some)).render(source)
        target = int(model.shows[row])
        seen = torch.stack([c.probabilities(made)[:, target] for c in classifiers])
        found[row] = seen.clamp(min=1e-4).log().mean(0).exp().mean()
        if row % 100 == 0:
            print(f"exemplar {row} of {len(found)}", flush=True)
    return found
