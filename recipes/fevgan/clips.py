"""What `fevgan` is trained on: what expressions do to neutral faces, as clips that rise to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from expraug.networks.class_index import class_index
from expraug.networks.onset import RHYTHM, rhythm
from expraug.synthesizers.expression_maps import ExpressionMaps
from recipes.fevgan.trainer import ClipBatch
from recipes.pairs.data import target_weights
from recipes.pairs.held import HeldPairs, chosen
from recipes.pairs.made import Pairs, mirrored
from recipes.real_faces import FER2013, FILES, LFW, LONDON, extract
from recipes.training.lottery import Lottery

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
    """Return which of some pairs, (N,) bool, are of the first so many people, a third at most: they
    are not trained on.

    Raises:
        ValueError: there are less than three people.
    """
    person = pairs.person[pairs.source[rows]]
    people = np.unique(person)
    if len(people) < 3:
        raise ValueError(
            f"the pairs show {len(people)} people with a neutral face, too few to hold some out: "
            f"make more pairs"
        )
    held: np.ndarray = np.isin(person, people[: min(count, len(people) // 3)])
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
    def drawn(cls, count: int, device: torch.device | None = None) -> Ways:
        """Return ways that are drawn from a device's global random generator."""
        angle, size, x, y = (2 * torch.rand(4, count, device=device) - 1).unbind()
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
        # a rotation and a scale: what inverts any matrix has the host wait for the device
        back = self.turn.mT / torch.linalg.vecdot(self.turn, self.turn)[..., None]
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
    """Draws batches, on a device and from its memory: all expressions equally often, but for those
    that are hard.

    Args:
        pairs: what expressions do.
        rows: those that are trained on.
        categories: of the net.
        codes: of the pairs.
        real: for each category, (R, 1, 64, 64) uint8 real faces that show it; there may be none.
        size, frames, noise: of the net.
        count: clips of a batch.
        device: where batches are.
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
        device: torch.device,
    ) -> None:
        self.size, self.frames, self.noise, self.count = size, frames, noise, count
        target = torch.from_numpy(pairs.target[rows])
        category = class_index(categories)[target]
        self.pairs = HeldPairs(pairs, rows, device)
        self.drawn = Lottery(target_weights(target, 1.0), device)
        self.category = category.to(device)
        # of examples as they are, and mirrored: (2, N, length)
        self.code = torch.stack(
            [torch.cat(part) for part in zip(*_codes(pairs, rows, category, codes), strict=True)]
        ).to(device)
        self.real = torch.cat(list(real)).to(device)
        count_of = torch.tensor([len(r) for r in real])
        first = count_of.cumsum(0) - count_of
        # where there are none, faces that show another
        first, count_of = (
            torch.where(count_of > 0, own, other)
            for own, other in ((first, torch.zeros_like(first)), (count_of, count_of.sum()))
        )
        self.first, self.count_of = first.to(device), count_of.to(device)

    def __call__(self) -> ClipBatch:
        """Return a batch, drawn from the device's global random generator."""
        rows = self.drawn(self.count)
        device, category = rows.device, self.category[rows]
        maps, faces = self.pairs.maps(rows), self.pairs.faces(rows)
        mirror = torch.rand(self.count, device=device) < 0.5
        maps = chosen(mirror, mirrored(maps), maps)
        faces = torch.where(mirror.view(-1, 1, 1, 1), faces.flip(3), faces)
        code = self.code[mirror.long(), rows]
        ways = Ways.drawn(self.count, device)
        source = resized(ways.faces(faces), self.size)
        power = (0.6 * torch.rand(self.count, 1, 1, 1, device=device) - 0.3).exp()
        maps = ways.maps(maps, self.size)
        lighter = resized(maps.lightening, self.size) * power
        rhythms = torch.randn(self.count, RHYTHM, device=device)
        z = torch.cat([rhythms, code[:, : self.noise - RHYTHM]], 1)
        shown = seen_frames(self.frames, self.count, device)
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
        count = self.count_of[category]
        place = (torch.rand(len(category), device=category.device) * count).long()
        faces = self.real[self.first[category] + place.clamp(max=count - 1)].float() / 255
        return torch.where(_some(faces, 0.5), faces.flip(3), faces)


def _codes(
    pairs: Pairs, rows: np.ndarray, category: Tensor, codes: Codes
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the codes of some pairs and of their mirror images, part by part."""
    for part in np.array_split(np.arange(len(rows)), -(-len(rows) // 512)):
        maps, own = pairs.maps(rows[part]), category[torch.from_numpy(part)]
        yield codes(maps, own), codes(mirrored(maps), own)


def seen_frames(frames: int, count: int, device: torch.device | None = None) -> Tensor:
    """Return every other frame of clips, from one of the first on, and the last, (B, T / 2)."""
    every = torch.arange(1, frames, _SEEN, device=device)
    later = (every + 1).clamp(max=frames - 1)
    return torch.where(torch.rand(count, 1, device=device) < 0.5, every, later)


def risen(maps: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Return (B, K, C, s, s): maps that have come so far in both halves of faces, (B, K) each."""
    side, (top, bottom) = maps.shape[-1], _HALF
    y = (torch.arange(side, device=maps.device) + 0.5) / side
    share = ((bottom - y) / (bottom - top)).clamp(0, 1)
    far = torch.lerp(lower[..., None], upper[..., None], share)
    return maps[:, None] * far[:, :, None, :, None]


def softened(faces: Tensor) -> Tensor:
    """Return (B, 1, S, S) faces, a third of them blurred, as many photographs are."""
    small = F.interpolate(faces, scale_factor=0.45, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, faces.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(_some(faces, 0.33), blurred, faces)


def _some(faces: Tensor, share: float) -> Tensor:
    """Draw about such a share of faces, (B, 1, 1, 1) bool."""
    return torch.rand(len(faces), 1, 1, 1, device=faces.device) < share


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
