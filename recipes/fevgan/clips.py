"""What `fevgan` is trained on: what expressions do to neutral faces, as clips that rise to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from expraug.expressions import Expression
from expraug.faces.synthesized import canonical_part
from expraug.faces.warp import resized
from expraug.networks.onset import RHYTHM, rhythm
from expraug.synthesizers.expression_maps import ExpressionMaps
from recipes.fevgan.trainer import ClipBatch
from recipes.pairs.made import Pairs, mirrored
from recipes.real_faces import FER2013, FILES, LFW, LONDON, extract

HELD_OUT = 24
"""People who are not trained on, to watch the training by."""
COARSE = 8
"""Side of the maps that codes are read off."""
LARGEST_ANGLE = 30
"""In degrees of yaw and pitch of a real face."""
_TURN, _SCALE, _SHIFT = 0.08, 0.06, 0.025  # how far faces are aligned otherwise; radians, …
_HALF = (0.45, 0.6)  # from the height where all is of the upper half to where none is
_SEEN = 2  # frames, of which a batch shows one


class Codes:
    """Which of all happy or angry faces an example is, in few numbers.

    They are principal components of what expressions do, their usual strength taken out: where the
    lips go, and maps so coarse that they tell of brows, lids and cheeks but of nobody.

    Args:
        maps: (N) examples.
        category: (N,) long.
        length: numbers of a code.
        seen: (N,) bool, examples that may be learned from.
    """

    def __init__(
        self, maps: ExpressionMaps, category: Tensor, length: int, seen: Tensor | None = None
    ) -> None:
        count = int(category.max()) + 1
        seen = torch.ones_like(category, dtype=torch.bool) if seen is None else seen
        kinds = features(maps)
        # lips, movement and light tell alike much
        self.scale = [float(kind[seen].var(0).sum().sqrt().clamp(min=1e-6)) for kind in kinds]
        looks = self._looks(maps)
        own = [looks[seen & (category == c)] for c in range(count)]
        some = [o if len(o) else looks for o in own]
        self.mean = torch.stack([o.mean(0) for o in some])
        away = (looks - self.mean[category])[seen]
        _, _, axes = torch.linalg.svd(away, full_matrices=False)
        # a direction and its opposite are the same to a decomposition, but not to who learned one
        sign = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        self.axes = (axes * sign)[:length].T
        spread = [((o - m) @ self.axes).std(0) for o, m in zip(some, self.mean, strict=True)]
        self.spread = torch.stack(spread).nan_to_num(1).clamp(min=1e-3)

    def __call__(self, maps: ExpressionMaps, category: Tensor) -> Tensor:
        """Return codes, (N, length), about of mean 0 and deviation 1 in each expression."""
        away = self._looks(maps) - self.mean[category]
        codes: Tensor = ((away @ self.axes) / self.spread[category]).clamp(-3, 3)
        return codes

    def _looks(self, maps: ExpressionMaps) -> Tensor:
        scaled = (k / s for k, s in zip(features(maps), self.scale, strict=True))
        return torch.cat(list(scaled), 1)


def features(maps: ExpressionMaps) -> list[Tensor]:
    """Return what codes are made of: where lips go, coarse movement and coarse light, (N, F)
    each."""
    size = (COARSE, COARSE)
    flow = F.interpolate(canonical_part(maps.flow), size, mode="area")
    lighter = F.interpolate(maps.lightening, size, mode="area")
    return [part.flatten(1) for part in (maps.moved_lips - maps.lips, flow, lighter)]


def neutral_rows(pairs: Pairs, categories: Sequence[Expression]) -> np.ndarray:
    """Return the pairs that start from a neutral face and end with one of the categories."""
    wanted = np.isin(pairs.target, [int(c) for c in categories])
    neutral = pairs.shown[pairs.source] == int(Expression.NEUTRAL)
    return np.flatnonzero(wanted & neutral)


def held_out(pairs: Pairs, rows: np.ndarray, count: int) -> np.ndarray:
    """Return which of some pairs, (N,) bool, are of the first so many people: they are not trained
    on.

    Raises:
        ValueError: there are no others.
    """
    person = pairs.person[pairs.source[rows]]
    people = np.unique(person)
    if len(people) <= count:
        raise ValueError(
            f"the pairs show {len(people)} people with a neutral face, of whom {count} are held "
            f"out: make more pairs"
        )
    held: np.ndarray = np.isin(person, people[:count])
    return held


@dataclass(frozen=True)
class Ways:
    """How a batch is aligned otherwise: c = turn c' + shift, from a place of the new frame to one
    of the old, both counted from the middle in halves of the side.

    Args:
        turn: (B, 2, 2).
        shift: (B, 2).
    """

    turn: Tensor
    shift: Tensor

    @classmethod
    def drawn(cls, count: int) -> Ways:
        """Return ways that are drawn from torch's global random generator."""
        angle, size, x, y = ((2 * torch.rand(count) - 1) for _ in range(4))
        cos, sin = torch.cos(_TURN * angle), torch.sin(_TURN * angle)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        shift = 2 * _SHIFT * torch.stack([x, y], 1)
        return cls(turn * torch.exp(_SCALE * size).view(-1, 1, 1), shift)

    def faces(self, faces: Tensor) -> Tensor:
        """Return (B, C, S, S) maps over the canonical frame, aligned so."""
        return self._sampled(faces, faces.shape[-1], 1.0)

    def maps(self, maps: ExpressionMaps, side: int) -> ExpressionMaps:
        """Return what the expressions do to these faces; the flow over the canonical frame alone,
        of that side."""
        back = torch.linalg.inv(self.turn)
        wide = maps.flow.shape[-1] / canonical_part(maps.flow).shape[-1]
        flow = torch.einsum("bij,bjhw->bihw", back, self._sampled(maps.flow, side, wide))
        lips, moved = (
            torch.einsum("bij,blpj->blpi", back, 2 * at - 1 - self.shift[:, None, None]) / 2 + 0.5
            for at in (maps.lips, maps.moved_lips)
        )
        lighter = self._sampled(maps.lightening, maps.lightening.shape[-1], 1.0)
        return ExpressionMaps(flow, lighter, lips, moved, maps.interior)

    def _sampled(self, maps: Tensor, side: int, wide: float) -> Tensor:
        theta = torch.cat([self.turn, self.shift[..., None]], 2) / wide
        grid = F.affine_grid(theta, [len(maps), 1, side, side], align_corners=False)
        return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)


class DrawClips:
    """Draws batches: all expressions equally often.

    Args:
        pairs: what expressions do.
        rows: those that are trained on.
        categories: of the net.
        codes: of the pairs.
        real: for each category, (R, 1, 64, 64) uint8 real faces that show it; there may be none.
        size, frames, noise: of the net.
        count: clips of a batch.
    """

    def __init__(
        self,
        pairs: Pairs,
        rows: np.ndarray,
        categories: Sequence[Expression],
        codes: Codes,
        real: Sequence[Tensor],
        size: int,
        frames: int,
        noise: int,
        count: int,
    ) -> None:
        self.pairs, self.rows, self.codes, self.real = pairs, rows, codes, real
        self.size, self.frames, self.noise, self.count = size, frames, noise, count
        place = {int(c): i for i, c in enumerate(categories)}
        self.category = torch.tensor([place[int(t)] for t in pairs.target[rows]])
        shown = torch.bincount(self.category, minlength=len(categories)).float()
        self.even = shown.reciprocal()[self.category]

    def __call__(self) -> ClipBatch:
        """Return a batch, drawn from torch's global random generator."""
        drawn = torch.multinomial(self.even, self.count, replacement=True)
        rows, category = self.rows[drawn.numpy()], self.category[drawn]
        maps, faces = self.pairs.maps(rows), self.pairs.faces(rows)
        mirror = torch.rand(self.count) < 0.5
        maps = chosen(mirror, mirrored(maps), maps)
        faces = torch.where(mirror.view(-1, 1, 1, 1), faces.flip(3), faces)
        code = self.codes(maps, category)
        ways = Ways.drawn(self.count)
        source = resized(ways.faces(faces), self.size)
        power = torch.empty(self.count, 1, 1, 1).uniform_(-0.3, 0.3).exp()
        maps = ways.maps(maps, self.size)
        lighter = resized(maps.lightening, self.size) * power
        z = torch.cat([torch.randn(self.count, RHYTHM), code[:, : self.noise - RHYTHM]], 1)
        shown = seen_frames(self.frames, self.count)
        upper, lower = (come.gather(1, shown) for come in rhythm(z, self.frames))
        return ClipBatch(
            source=softened(source.clamp(min=1e-3) ** power),
            category=category,
            z=z,
            shown=shown,
            flow=risen(maps.flow, upper, lower),
            lightening=risen(lighter, upper, lower),
            lips=maps.lips,
            moved_lips=maps.lips[:, None]
            + lower[..., None, None, None] * (maps.moved_lips - maps.lips)[:, None],
            interior=maps.interior,
            real=softened(self._real(category)),
        )

    def _real(self, category: Tensor) -> Tensor:
        """Return real faces that show the categories, (B, 1, 64, 64) float; of one of which there
        are none, faces that show another."""
        found = []
        for number in category.tolist():
            there = self.real[number] if len(self.real[number]) else torch.cat(list(self.real))
            found.append(there[int(torch.randint(len(there), ()))])
        faces = torch.stack(found).float() / 255
        return torch.where(torch.rand(len(faces), 1, 1, 1) < 0.5, faces.flip(3), faces)


def chosen(which: Tensor, some: ExpressionMaps, others: ExpressionMaps) -> ExpressionMaps:
    """Return maps, some of which are these, by (B,) bool, and some those."""

    def pick(one: Tensor, other: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (one.ndim - 1)), one, other)

    return some.each(pick, others)


def seen_frames(frames: int, count: int) -> Tensor:
    """Return every other frame of clips, from one of the first on, and the last, (B, T / 2)."""
    every = torch.arange(1, frames, _SEEN)
    later = torch.where(every + 1 < frames, every + 1, frames - 1)
    return torch.where(torch.rand(count, 1) < 0.5, every, later)


def risen(maps: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Return (B, K, C, s, s): maps that have come so far in both halves of faces, (B, K) each."""
    side, (top, bottom) = maps.shape[-1], _HALF
    y = (torch.arange(side) + 0.5) / side
    share = ((bottom - y) / (bottom - top)).clamp(0, 1)
    far = torch.lerp(lower[..., None], upper[..., None], share)
    return maps[:, None] * far[:, :, None, :, None]


def softened(faces: Tensor) -> Tensor:
    """Return (B, 1, S, S) faces, a third of them blurred, as many photographs are."""
    small = F.interpolate(faces, scale_factor=0.45, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, faces.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(torch.rand(len(faces), 1, 1, 1) < 0.33, blurred, faces)


def real_faces(data: Path, work: Path, categories: Sequence[Expression]) -> list[Tensor]:
    """Return, for each category, (R, 1, 64, 64) uint8 frontal faces of training people who show it,
    as most annotators say.

    Args:
        data, work: as `recipes.real_faces` takes them.
    """
    found: list[list[Tensor]] = [[] for _ in categories]
    for origin in (FER2013, LFW, LONDON):
        faces = extract(origin, data / FILES[origin][0], work)
        frontal = (np.abs(faces.pose[:, :2]) < LARGEST_ANGLE).all(1) & (faces.split == "train")
        faces = faces.take(np.flatnonzero(frontal & (faces.votes.max(1) > 0.5)))
        for number, category in enumerate(categories):
            rows = np.flatnonzero(faces.majority == int(category))
            if len(rows):
                found[number].append(resize(faces.take(rows).grey(), [64, 64], antialias=True))
    return [torch.cat(f) if f else torch.empty(0, 1, 64, 64, dtype=torch.uint8) for f in found]
