"""How far a synthesizer goes at intensity 1: chosen on training people that it was not fitted on.

It goes until a classifier sees the target as clearly, in the mean, as in real faces that show it,
and no further than where the person is still verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERNet
from expraug.networks.identity import IdentityEncoder
from recipes.labelled_faces import LabelledFaces

REAL = 400
"""Real faces of a target that synthetics are compared with, about."""


_NOTHING = 0.03  # of probability, which no greater strength is worth


@dataclass(frozen=True)
class Limits:
    """Where to stop.

    Args:
        reach: the classifier's mean probability of the target is so many times that of real faces
            that show it…
        largest: … but no further than this,
        grid: tried at so many places,
        verified, margin: … nor than where fewer than this share of the faces keep a cosine above
            the identity encoder's threshold and this margin.
    """

    reach: float
    largest: float
    grid: int
    verified: float
    margin: float


@torch.inference_mode()
def choose(
    make: Callable[[float], Tensor],
    source: Tensor,
    target: Expression,
    held: LabelledFaces,
    classifier: FERNet,
    encoder: IdentityEncoder | None,
    limits: Limits,
) -> tuple[float, dict[str, str]]:
    """Choose an edit strength.

    Args:
        make: (N, 1, S, S) faces in [0, 1], changed so far.
        source: (N, 1, S, S), as they were.
        target: what they are changed to.
        held: real faces of nobody that anything was fitted on.
        classifier: who knows none of them.
        encoder: of identity; None tries without.
        limits: see there.

    Returns:
        The strength, and the figures behind it.
    """
    column = classifier.expressions.index(target)
    real = (held.labels == int(target)).nonzero().flatten()
    real = real[:: max(1, len(real) // REAL)]
    seen = [classifier.probabilities(held.grey(at).to(source)) for at in real.split(256)]
    wanted = float(torch.cat(seen)[:, column].mean())
    strengths = np.linspace(0, limits.largest, limits.grid + 1)[1:].tolist()
    probable: list[float] = []
    for strength in strengths:
        probable.append(float(classifier.probabilities(make(strength))[:, column].mean()))
        if probable[-1] >= limits.reach * wanted:
            break
    limit = "reached" if probable[-1] >= limits.reach * wanted else "no more to gain"
    # the shortest that is nearly as good: what lies beyond distorts for nothing
    enough = probable[-1] if limit == "reached" else max(probable) - _NOTHING
    place = next(i for i, p in enumerate(probable) if p >= enough)
    cosine = share = float("nan")
    if encoder is not None:
        before = embeddings_of(source, encoder)
        while True:
            alike = (embeddings_of(make(strengths[place]), encoder) * before).sum(1)
            above = alike > encoder.threshold + limits.margin
            cosine, share = float(alike.mean()), float(above.float().mean())
            if share >= limits.verified:
                break
            limit = "identity"
            if place == 0:
                break
            place -= 1
    hit = classifier.probabilities(make(strengths[place])).argmax(1) == column
    return strengths[place], {
        "": str(target),
        "sources": str(len(source)),
        "strength": f"{strengths[place]:.2f}",
        "ended by": limit,
        "probability": f"{probable[place]:.2f}",
        "of real faces": f"{wanted:.2f}",
        "recognised": f"{float(hit.float().mean()):.2f}",
        "cosine": f"{cosine:.3f}",
        "verified": f"{share:.2f}",
    }


@torch.inference_mode()
def embeddings_of(grey: Tensor, encoder: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (N, D) identity embeddings of (N, 1, S, S) faces in [0, 1], on the CPU."""
    return torch.cat([encoder(part.expand(-1, 3, -1, -1)).cpu() for part in grey.split(32)])


def print_table(lines: list[dict[str, str]]) -> None:
    """Print the figures behind the edit strengths."""
    table = Table(title="Edit strengths, chosen on training people that nothing was fitted on")
    for name in lines[0]:
        table.add_column(name)
    for line in lines:
        table.add_row(*line.values())
    Console(width=120).print(table)
