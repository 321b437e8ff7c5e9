"""What `decoupled` learns from: pairs that `transfer` made, and real faces that show the class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.latent.generator import StyleGenerator
from recipes.latent.latents import at_side, latents_of_faces
from recipes.pairs.data import somebody_else, vary_alike
from recipes.pairs.moves import Moves
from recipes.real_faces import Faces, drawing_weights

HELD_OUT = 16
"""Of the people with pairs, one in so many is only watched."""
_BALANCE = 0.6  # pairs of a target with n of them are drawn in proportion to n to 1 less this
MOST_REAL = 6000
"""Real faces that are drawn from."""
_AGREED = 0.5  # share of the votes that a real face of a class has


@dataclass(frozen=True)
class Batch:
    """What one step sees: B pairs, and as many real faces.

    Args:
        source: (B, 1, S, S) float in [0, 1].
        landmarks: (B, 478, 2) float, of the sources.
        category: (B,) long, asked for, a value of `Expression`.
        target: (B, 1, S, S) float in [0, 1]: the same people, showing it.
        embedding: (B, D) unit vectors of the sources' identities.
        other: (B,) long, for each the place of somebody else in the batch.
        real: (B, 1, S, S) float in [0, 1], single real faces.
        real_category: (B,) long, what they show.
        source_latents, target_latents, real_latents: (B, L, W) of these faces, before they are
            lit otherwise.
        rows: (3 B,) long, places of sources, targets and real faces among all that there are:
            sources first, then what is made of them, then real faces.
    """

    source: Tensor
    landmarks: Tensor
    category: Tensor
    target: Tensor
    embedding: Tensor
    other: Tensor
    real: Tensor
    real_category: Tensor
    source_latents: Tensor
    target_latents: Tensor
    real_latents: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the same on a device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass
class RealFaces:
    """N real faces, each with a label that most annotators agree on.

    Args:
        pixels: (N, 1, S, S) uint8.
        latents: (N, L, W) float.
        category: (N,) long, value of `Expression`.
        weight: (N,) float, how often each is drawn.
    """

    pixels: Tensor
    latents: Tensor
    category: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.category)


def real_faces(faces: Faces, generator: StyleGenerator, work: Path) -> RealFaces:
    """Return the faces of a class each, with what a painted generator reads off them; latents are
    kept in the work folder."""
    latents = latents_of_faces(generator, faces, work)
    rows = np.flatnonzero(faces.votes.max(1) > _AGREED)
    rows = np.random.default_rng(0).permutation(rows)[:MOST_REAL]
    clear = faces.take(rows)
    return RealFaces(
        at_side(clear, generator.image_size),
        latents[torch.from_numpy(rows)],
        torch.from_numpy(clear.votes.argmax(1)),
        drawing_weights(clear).float(),
    )


def watched(moves: Moves) -> Tensor:
    """Return (N,) bool, which pairs are held out: all of their people."""
    return moves.person[moves.of] % HELD_OUT == 0


class Draw:
    """Draws batches.

    Args:
        moves: pairs.
        real: real faces.
        embedding: (M, D) unit vectors of the sources of the pairs; None draws without, for what
            learns no identity.
        count: pairs of a batch, at least 2.
    """

    def __init__(self, moves: Moves, real: RealFaces, embedding: Tensor | None, count: int) -> None:
        if count < 2:
            raise ValueError(f"a batch needs 2 pairs, to have somebody else in it, not {count}")
        self.moves, self.real, self.embedding, self.count = moves, real, embedding, count
        frequency = torch.bincount(moves.target, minlength=len(Expression)).float()
        self.weight = frequency[moves.target] ** -_BALANCE

    def __call__(self) -> Batch:
        """Return a batch, drawn from torch's global random generator."""
        pairs = torch.multinomial(self.weight, self.count)
        real = torch.multinomial(self.real.weight, self.count, replacement=True)
        moves, of = self.moves, self.moves.of[pairs]
        both = torch.cat([moves.source[of], moves.made[pairs]]).float() / 255
        source, target = vary_alike(both, self.count, mirror=False).split(self.count)
        embedding = source.new_zeros(self.count, 1)
        if self.embedding is not None:
            embedding = self.embedding[of]
        return Batch(
            source,
            moves.landmarks[of],
            moves.target[pairs],
            target,
            embedding,
            somebody_else(moves.person[of]),
            vary_alike(self.real.pixels[real].float() / 255, self.count),
            self.real.category[real],
            moves.latents[of],
            moves.wanted[pairs],
            self.real.latents[real],
            torch.cat([of, len(moves.source) + pairs, len(moves.source) + len(moves) + real]),
        )

    def faces(self) -> Tensor:
        """Return all faces, as `Batch.rows` counts them, (N, 1, S, S) uint8."""
        return torch.cat([self.moves.source, self.moves.made, self.real.pixels])


@torch.no_grad()
def embed(faces: Tensor, encoder: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (N, D) identity embeddings of (N, 1, S, S) uint8 faces, on the CPU."""
    parts = (part.float() / 255 for part in faces.split(32))
    return torch.cat([encoder(part.expand(-1, 3, -1, -1)).cpu() for part in parts])
