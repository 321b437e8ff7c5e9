"""What `unet_cgan` learns from: pairs that `transfer` made, and single real faces."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
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
from recipes.pairs.data import somebody_else
from recipes.pairs.made import Pairs, mirrored
from recipes.real_faces import drawing_weights, training_faces
from recipes.training.low import LOW
from recipes.unet_cgan.codes import Codes, described

HELD_OUT = 16
"""Of the people with pairs, one in so many is only watched."""
_BALANCE = 0.6  # pairs of a target with n of them are drawn in proportion to n to 1 less this
_AGREED = 0.5  # share of the votes that a single face of a class has
_MOVES = (
    *(70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285),
    *(33, 160, 159, 158, 133, 153, 145, 144, 263, 387, 386, 385, 362, 380, 374, 373),
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178),
    *(98, 327, 49, 279, 9),
)  # landmarks of brows, lids, lips and the wings of the nose


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

    def to(self, device: torch.device) -> Batch:
        """Return the same on a device."""
        moved = self.wanted.each(lambda one: one.to(device))
        others = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "wanted"}
        tensors = {name: value.to(device) for name, value in others.items()}
        return Batch(wanted=moved, **tensors)


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
        self.trained = self.person % HELD_OUT != 0
        # whose code is lent: of faces that had nothing to undo, or did nothing else
        neutral = int(Expression.NEUTRAL)
        self.lent = self.trained & ((self.shown == neutral) | (self.target == neutral))

    def _described(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        maps = within_the_frame(self.pairs.maps(rows))
        return described(maps), described(mirrored(maps))

    def random_codes(self, count: int) -> tuple[Tensor, Tensor]:
        """Return categories, (count,), and for each the code of a pair of it, (count, C)."""
        known = torch.bincount(self.target[self.lent], minlength=len(Expression)).nonzero()
        asked = known[torch.randint(len(known), (count,)), 0]
        share = (self.lent & (self.target == asked[:, None])).float()
        rows = torch.multinomial(share, 1)[:, 0]
        return asked, self.code[torch.randint(2, (count,)), rows]

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
        out = self.pairs.person % HELD_OUT == 0
        rows = np.flatnonzero((out == held_out) & (self.pairs.shown == int(Expression.NEUTRAL)))
        return torch.from_numpy(self.pairs.face[rows[:count]]).float() / 255

    def importance(self) -> Tensor:
        """Return how much each place counts in the flow, (1, 64, 64), 1 in the mean: most where
        brows, lids and lips are."""
        side = 64
        places = torch.from_numpy(self.pairs.mesh[:, list(_MOVES)]).flatten(0, 1)
        cell = (places * side).long().clamp(0, side - 1)
        hits = torch.bincount(cell[:, 1] * side + cell[:, 0], minlength=side**2).float()
        near = hits.view(1, 1, side, side)
        for _ in range(3):
            near = F.avg_pool2d(near, 5, 1, 2)
        near = near[0] + near[0].flip(2)
        weight = 0.3 + near / near.mean()
        return weight / weight.mean()


class Draw:
    """Draws batches.

    Args:
        coded: pairs.
        singles: real faces.
        count, unpaired: sources of a batch with and without a pair.
    """

    def __init__(self, coded: CodedPairs, singles: Singles, count: int, unpaired: int) -> None:
        self.coded, self.singles, self.count, self.unpaired = coded, singles, count, unpaired
        counts = torch.bincount(coded.target, minlength=len(Expression)).float()
        self.weight = counts[coded.target] ** -_BALANCE * coded.trained

    def __call__(self) -> Batch:
        """Return a batch, drawn from torch's global random generator."""
        rows = torch.multinomial(self.weight, self.count)
        flip = torch.rand(self.count) < 0.5
        rows = torch.cat([rows[~flip], rows[flip]])
        turned = int(flip.sum())
        source, wanted = self._pairs(rows, turned)
        alone, lips = self._alone()
        asked, lent = self.coded.random_codes(self.unpaired)
        side = torch.zeros(self.count, dtype=torch.long)
        side[self.count - turned :] = 1
        own = self.coded.code[side, rows]
        seen = torch.multinomial(self.singles.weight, self.count + self.unpaired, replacement=True)
        return Batch(
            source=vary(torch.cat([source, alone])),
            category=torch.cat([self.coded.target[rows], asked]),
            # so that what lies between two codes is an expression too
            code=torch.cat([own + 0.2 * torch.randn_like(own), lent]),
            lips=torch.cat([wanted.lips, lips]),
            wanted=wanted,
            other=somebody_else(self.coded.person[rows]),
            real=mirror_some(resized(self.singles.faces[seen].float() / 255, LOW)),
            real_category=self.singles.category[seen],
        )

    def _pairs(self, rows: Tensor, turned: int) -> tuple[Tensor, ExpressionMaps]:
        """Return the sources of some pairs and what becomes of them, the last so many mirrored."""
        there = rows.numpy()
        faces, maps = self.coded.pairs.faces(there), within_the_frame(self.coded.pairs.maps(there))
        if not turned:
            return faces, maps
        start = len(faces) - turned
        first, last = maps.each(lambda one: one[:start]), maps.each(lambda one: one[start:])
        faces = torch.cat([faces[:start], faces[start:].flip(3)])
        return faces, ExpressionMaps.joined([first, mirrored(last)])

    def _alone(self) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.singles.category), (self.unpaired,))
        faces, lips = self.singles.faces[rows].float() / 255, self.singles.lips[rows]
        flipped = lips.flip(2) * lips.new_tensor([-1, 1]) + lips.new_tensor([1, 0])
        flip = torch.rand(self.unpaired) < 0.5
        where = flip.view(-1, 1, 1, 1)
        return torch.where(where, faces.flip(3), faces), torch.where(where, flipped, lips)


def within_the_frame(maps: ExpressionMaps) -> ExpressionMaps:
    """Return the same with a flow over the canonical frame."""
    return replace(maps, flow=canonical_part(maps.flow))


def mirror_some(faces: Tensor) -> Tensor:
    """Mirror about half of (B, 1, S, S) faces."""
    which = torch.rand(len(faces), 1, 1, 1) < 0.5
    return torch.where(which, faces.flip(3), faces)


def vary(faces: Tensor) -> Tensor:
    """Relight and blur (B, 1, S, S) faces in [0, 1]."""
    shape = (len(faces), 1, 1, 1)
    gamma = torch.empty(shape).uniform_(-0.3, 0.3).exp()
    soft = (torch.rand(shape) < 0.3).float() * torch.rand(shape)
    faces = faces.clamp(min=1e-3) ** gamma
    half = F.interpolate(faces, scale_factor=0.4, mode="bilinear", antialias=True)
    blurred = F.interpolate(half, faces.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(faces, blurred, soft)
