"""What `unet_cgan` learns from: pairs that `transfer` made, and single real faces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.mouth import lips_of
from expraug.faces.synthesized import canonical_part
from expraug.faces.warp import resized
from expraug.synthesizers.expression_maps import ExpressionMaps
from recipes.pairs.data import importance, somebody_else, target_weights
from recipes.pairs.held import HeldPairs, chosen
from recipes.pairs.made import Pairs, mirrored
from recipes.real_faces import drawing_weights, training_faces
from recipes.training.lottery import Lottery
from recipes.training.low import LOW
from recipes.unet_cgan.codes import Codes, described

HELD_OUT = 16
"""Of the people with pairs, one in so many is only watched; of few people, one in three."""
_BALANCE = 0.8  # see `target_weights`
_AGREED = 0.5  # share of the votes that a single face of a class has


@dataclass(frozen=True)
class Batch:
    """What one step sees: B sources, the first P of which have a pair.

    Args:
        source: (B, 1, S, S) float in [0, 1].
        category: (B,) long, asked for.
        code: (B, C) float, asked for.
        lips: (B, 2, 11, 2) float, of the sources.
        wanted: of the first P, with a flow over the canonical frame.
        other: (P,) long, for each of the first P the place of somebody else among them.
        real: (R, 1, 48, 48) float in [0, 1], real faces.
        real_category: (R,) long, what they show.
    """

    source: Tensor
    category: Tensor
    code: Tensor
    lips: Tensor
    wanted: ExpressionMaps
    other: Tensor
    real: Tensor
    real_category: Tensor


@dataclass(frozen=True)
class Singles:
    """Real faces of training people.

    Args:
        faces: (N, 1, 128, 128) uint8, aligned.
        lips: (N, 2, 11, 2) float.
        category: (N,) long.
        weight: (N,) float, how often each is drawn.
    """

    faces: Tensor
    lips: Tensor
    category: Tensor
    weight: Tensor

    @classmethod
    def read(cls, data: Path, work: Path, limit: int, seed: int) -> Singles:
        """Return so many faces of the sets, at most, rare classes in full.

        Args:
            data, work: as `recipes.real_faces` takes them.
        """
        faces = training_faces(data, work, None)
        faces = faces.take(np.flatnonzero(faces.votes.max(1) >= _AGREED))
        share = drawing_weights(faces).numpy()
        few = min(limit, len(faces))
        chosen = np.random.default_rng(seed).choice(
            len(faces), few, replace=False, p=share / share.sum()
        )
        some = faces.take(np.sort(chosen))
        label = torch.from_numpy(some.votes.argmax(1))
        return cls(
            some.grey(),
            lips_of(torch.from_numpy(some.mesh[..., :2])),
            label,
            # each class alike: a rare one is what the teacher shows worst
            torch.bincount(label, minlength=len(Expression)).float().reciprocal()[label],
        )


class CodedPairs:
    """Pairs, and a code of what each shows.

    Args:
        pairs: what `recipes.pairs.make_pairs` wrote.
        length: numbers of a code.
    """

    def __init__(self, pairs: Pairs, length: int) -> None:
        self.pairs = pairs
        self.target = torch.from_numpy(np.array(pairs.target))
        self.shown = torch.from_numpy(pairs.shown[pairs.source])
        self.person = torch.from_numpy(pairs.person[pairs.source])
        parts = np.array_split(np.arange(len(pairs)), -(-len(pairs) // 256))
        found = [self._described(rows) for rows in parts]
        plain, flipped = (torch.cat([f[side] for f in found]) for side in (0, 1))
        codes = Codes.fitted(
            torch.cat([plain, flipped]), self.shown.repeat(2), self.target.repeat(2), length
        )
        # of the pairs as they are, and mirrored: (2, N, C)
        self.code = torch.stack([codes(d, self.shown) for d in (plain, flipped)])
        one_in = HELD_OUT if len(np.unique(pairs.person)) > 3 * HELD_OUT else 3
        self.held_out = pairs.person % one_in == 0  # which faces
        self.trained = ~torch.from_numpy(self.held_out[pairs.source])
        # whose code is lent: of faces that had nothing to undo, or did nothing else
        neutral = int(Expression.NEUTRAL)
        self.lent = self.trained & ((self.shown == neutral) | (self.target == neutral))

    def _described(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        maps = within_the_frame(self.pairs.maps(rows))
        return described(maps), described(mirrored(maps))

    def bank(self, count: int, seed: int) -> Tensor:
        """Return codes of pairs of each category, (8, count, C), 0 for one that has none; of
        neutral, which has nothing to vary, the mean."""
        random = np.random.default_rng(seed)
        found = torch.zeros(len(Expression), count, self.code.shape[2])
        for category in range(len(Expression)):
            rows = torch.nonzero(self.lent & (self.target == category))[:, 0].numpy()
            if len(rows):
                few = random.choice(rows, count, replace=len(rows) < count)
                found[category] = self.code[0, few]
        of_neutral = self.lent & (self.target == int(Expression.NEUTRAL))
        if of_neutral.any():
            found[int(Expression.NEUTRAL)] = self.code[0, of_neutral].mean(0)
        return found

    def neutral_faces(self, held_out: bool, count: int) -> Tensor:
        """Return so many neutral faces at most, (N, 1, 128, 128) float in [0, 1], of people who
        are trained on, or of those held out."""
        rows = np.flatnonzero(
            (self.held_out == held_out) & (self.pairs.shown == int(Expression.NEUTRAL))
        )
        return torch.from_numpy(self.pairs.face[rows[:count]]).float() / 255

    def importance(self) -> Tensor:
        """Return how much each place counts in the flow, (1, 64, 64), as `importance` has it."""
        return importance(self.pairs.mesh)


class Draw:
    """Draws batches, on a device and from its memory.

    Args:
        coded: pairs.
        singles: real faces.
        count, unpaired: sources of a batch with and without a pair.
        device: where batches are.
    """

    def __init__(
        self,
        coded: CodedPairs,
        singles: Singles,
        count: int,
        unpaired: int,
        device: torch.device,
    ) -> None:
        self.count, self.unpaired = count, unpaired
        every = np.arange(len(coded.pairs))
        self.pairs = HeldPairs(coded.pairs, every, device, within=True)
        self.target, self.person, self.code = (
            kept.to(device) for kept in (coded.target, coded.person, coded.code)
        )
        self.faces, self.lips, self.category = (
            kept.to(device) for kept in (singles.faces, singles.lips, singles.category)
        )
        trained = target_weights(coded.target, _BALANCE) * coded.trained
        self.paired = Lottery(trained, device)
        lent = coded.lent.float()
        of_target = torch.bincount(coded.target, lent, minlength=len(Expression)).float()
        # each target alike
        self.lent = Lottery(lent / of_target.clamp(min=1)[coded.target], device)
        self.shown = Lottery(singles.weight, device)

    def __call__(self) -> Batch:
        """Return a batch, drawn from the device's global random generator."""
        rows, lent = self.paired(self.count), self.lent(self.unpaired)
        maps, faces = self.pairs.maps(rows), self.pairs.faces(rows)
        flip = torch.rand(self.count, device=rows.device) < 0.5
        wanted = chosen(flip, mirrored(maps), maps)
        source = torch.where(flip.view(-1, 1, 1, 1), faces.flip(3), faces)
        alone, lips = self._alone()
        own = self.code[flip.long(), rows]
        seen = self.shown(self.count + self.unpaired)
        side = torch.randint(2, (self.unpaired,), device=rows.device)
        return Batch(
            source=vary(torch.cat([source, alone])),
            category=torch.cat([self.target[rows], self.target[lent]]),
            # so that what lies between two codes is an expression too
            code=torch.cat([own + 0.2 * torch.randn_like(own), self.code[side, lent]]),
            lips=torch.cat([wanted.lips, lips]),
            wanted=wanted,
            other=somebody_else(self.person[rows]),
            real=mirror_some(resized(self.faces[seen].float() / 255, LOW)),
            real_category=self.category[seen],
        )

    def _alone(self) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.category), (self.unpaired,), device=self.category.device)
        faces, lips = self.faces[rows].float() / 255, self.lips[rows]
        flipped = torch.stack([1 - lips[..., 0], lips[..., 1]], 3).flip(2)
        flip = torch.rand(self.unpaired, 1, 1, 1, device=rows.device) < 0.5
        return torch.where(flip, faces.flip(3), faces), torch.where(flip, flipped, lips)


def within_the_frame(maps: ExpressionMaps) -> ExpressionMaps:
    """Return the same with a flow over the canonical frame."""
    return replace(maps, flow=canonical_part(maps.flow))


def mirror_some(faces: Tensor) -> Tensor:
    """Mirror about half of (B, 1, S, S) faces."""
    which = torch.rand(len(faces), 1, 1, 1, device=faces.device) < 0.5
    return torch.where(which, faces.flip(3), faces)


def vary(faces: Tensor) -> Tensor:
    """Relight and blur (B, 1, S, S) faces in [0, 1]."""
    gamma, share, soft = torch.rand(3, len(faces), 1, 1, 1, device=faces.device).unbind()
    gamma, soft = (0.6 * gamma - 0.3).exp(), (share < 0.3).float() * soft
    faces = faces.clamp(min=1e-3) ** gamma
    half = F.interpolate(faces, scale_factor=0.4, mode="bilinear", antialias=True)
    blurred = F.interpolate(half, faces.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(faces, blurred, soft)
