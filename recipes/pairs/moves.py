"""How the latents of one person's faces differ, from one expression to another."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.evaluate.frechet import shrunk_covariance
from expraug.expressions import Expression
from expraug.faces.mouth import LIPS, UPPER_LIP, painted_share
from expraug.faces.synthesized import FLOW_FRAME
from expraug.faces.warp import resized, sample
from expraug.latent.generator import FaceGenerator
from expraug.latent.pictures import Pictures
from expraug.synthesizers.expression_maps import ExpressionMaps
from recipes.latent.latents import Invert, digest, key_of, latents_of
from recipes.pairs.made import Pairs

_BATCH = 64
_ROUNDS, _DAMPING = 24, 0.5  # of finding where a flow takes a point
_OPENED = 0.5  # share of a mouth's inside that is painted, from which it says what is in one


@dataclass
class Moves:
    """N pairs, as a generator would draw them.

    Args:
        source: (M, 1, S, S) uint8, the faces as they are, and
        latents: (M, L, W) float, their latents; M of them, as `Pairs` has them.
        made: (N, 1, S, S) uint8, what the expression makes of its source, and
        wanted: (N, L, W) float, its latents.
        landmarks: (M, 478, 2) float, of the sources.
        of: (N,) long, the source of each.
        shown, person: (M,) long, of the sources.
        target: (N,) long, value of `Expression`.
        interior: (8, 6, 12) float, for each expression the mean of how light the inside of mouths
            is that it opens.
    """

    source: Tensor
    latents: Tensor
    made: Tensor
    wanted: Tensor
    landmarks: Tensor
    of: Tensor
    shown: Tensor
    person: Tensor
    target: Tensor
    interior: Tensor

    def __len__(self) -> int:
        return len(self.of)

    @property
    def moves(self) -> Tensor:
        """(N, D) float64, what each expression does to the latents of its source."""
        return (self.wanted - self.latents[self.of]).flatten(1).double()


def moves_of_pairs(
    generator: FaceGenerator, folder: Path, work: Path, invert: Invert | None = None
) -> Moves:
    """Return how latents of pairs differ; from the work folder where it is there already.

    Args:
        generator: of the latents.
        folder: what `recipes.pairs.make_pairs` wrote.
        work: folder for what can be made again.
        invert: as `latents_of` takes it.
    """
    changed = (folder / "target.npy").stat()
    of = f"{folder.resolve()} {changed.st_size} {changed.st_mtime} {key_of(generator)}"
    file = work / f"moves-{digest(of)}.safetensors"
    if not file.is_file():
        found = read_moves(generator, Pairs.load(folder), invert)
        save_file({f.name: getattr(found, f.name).contiguous() for f in fields(found)}, file)
    return Moves(**load_file(file))


@torch.inference_mode()
def read_moves(generator: FaceGenerator, pairs: Pairs, invert: Invert | None = None) -> Moves:
    """Render pairs at the generator's size, and find the latents of sources and results."""
    size = generator.image_size
    source = torch.cat(
        [
            _bytes(resized(torch.from_numpy(pairs.face[rows]).float() / 255, size))
            for rows in _batches(len(pairs.face))
        ]
    )
    landmarks = torch.from_numpy(np.array(pairs.mesh[..., :2]))
    made, moved, shares = [], [], []
    for rows in _batches(len(pairs)):
        maps, of = pairs.maps(rows), pairs.source[rows]
        faces = (source[of].float() / 255).expand(-1, 3, -1, -1)
        made.append(_bytes(maps.applied(faces).render(faces)[:, :1]))
        moved.append(displaced(landmarks[of], maps))
        shares.append(painted_share(maps.lips, maps.moved_lips)[:, 0])
    after = torch.cat(made)
    target = torch.from_numpy(np.array(pairs.target))
    return Moves(
        source,
        latents_of(generator, source, landmarks, invert),
        after,
        latents_of(generator, after, torch.cat(moved), invert),
        landmarks,
        torch.from_numpy(np.array(pairs.source)),
        torch.from_numpy(np.array(pairs.shown)),
        torch.from_numpy(np.array(pairs.person)),
        target,
        mean_interiors(
            torch.from_numpy(np.array(pairs.interior)).float(), target, torch.cat(shares)
        ),
    )


def displaced(landmarks: Tensor, maps: ExpressionMaps) -> Tensor:
    """Return where maps take landmarks, (B, 478, 2), as fractions of the frame's side."""
    low, high = FLOW_FRAME
    place = landmarks
    for _ in range(_ROUNDS):  # the flow says where a place comes from, not where it goes
        grid = (2 * (place - low) / (high - low) - 1).transpose(1, 2)[..., None]
        comes_from = place + sample(maps.flow, grid)[..., 0].transpose(1, 2)
        place = place - _DAMPING * (comes_from - landmarks)
    place = place.clone()
    for lip, points in enumerate(LIPS):
        place[:, list(points)] = maps.moved_lips[:, lip]
    return place


def mean_interiors(interior: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Return the mean interior of the mouths that each expression opens, (8, 6, 12); of all mouths
    that are opened, where it opens none.

    Args:
        interior: (N, 6, 12), of pairs.
        target: (N,) values of `Expression`.
        share: (N,), how much of the mouth's inside is painted.
    """
    opened = share > _OPENED
    if not opened.any():
        return interior.mean(0).expand(len(Expression), -1, -1)
    usual = interior[opened].mean(0)
    found = [interior[opened & (target == int(e))] for e in Expression]
    return torch.stack([part.mean(0) if len(part) else usual for part in found])


def one_sided(moves: Moves, pictures: Pictures) -> Tensor:
    """Return (N,) bool, all pairs but those of contempt that raise the right corner of the mouth,
    as we see it, more than the left: contempt is one-sided, and a mean of both sides is none."""
    shapes = (t.to(pictures.rest)[:, -1] for t in (moves.latents[moves.of], moves.wanted))
    corners = pictures.displacement(*shapes)[:, [UPPER_LIP[0], UPPER_LIP[-1]], 1].cpu()
    return (corners[:, 0] < corners[:, 1]) | (moves.target != int(Expression.CONTEMPT))


def of_expressions(moves: Moves, expressions: tuple[Expression, ...]) -> list[Tensor]:
    """Return for each expression (N, D) float64, moves of latents: of neutral sources towards it,
    and towards neutral, of smiles, which is what nearly all others are; of all others if none is.
    """
    every, neutral = moves.moves, moves.shown[moves.of] == int(Expression.NEUTRAL)
    smiles = moves.shown[moves.of] == int(Expression.HAPPY)
    smiles = smiles if (smiles & (moves.target == int(Expression.NEUTRAL))).any() else ~neutral
    found = []
    for expression in expressions:
        fits = moves.target == int(expression)
        found.append(every[fits & (smiles if expression == Expression.NEUTRAL else neutral)])
    return found


def part_of(moves: Moves, rows: Tensor) -> Moves:
    """Return some of the pairs, at an index or a mask, with all of the sources."""
    names = ("made", "wanted", "of", "target")
    return replace(moves, **{n: getattr(moves, n)[rows] for n in names})


def likely(moves: Tensor) -> Tensor:
    """Return the (D, D) covariance of moves, there and back."""
    return torch.from_numpy(shrunk_covariance(torch.cat([moves, -moves]).numpy()))


def _batches(count: int) -> list[np.ndarray]:
    return np.array_split(np.arange(count), max(1, -(-count // _BATCH)))


def _bytes(faces: Tensor) -> Tensor:
    return (faces * 255).round().clamp(0, 255).to(torch.uint8)
