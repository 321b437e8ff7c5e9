"""What a change of latents does to a face: the maps of `emotiongan` and `decoupled`.

A painted generator (`expraug/latent/pictures.py`) says which of it is shape and which is skin: the
shapes become a flow, and what it draws lighter or darker at rest becomes light and shade on the
face's own skin, at its own resolution. The inside of a mouth that opens is left to the mouth
painter. Of other generators the change of what they draw is added.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from expraug.faces.composite import luminance, moving_face_mask
from expraug.faces.mouth import LIPS, lips_met, lips_of
from expraug.faces.read import read_face
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces, canonical_part
from expraug.faces.warp import resized, warp
from expraug.latent.generator import FaceGenerator, StyleGenerator
from expraug.latent.pictures import Pictures
from expraug.latent.thin_plate import thin_plate
from expraug.networks.batching import independently
from expraug.synthesizers.expression_maps import ExpressionMaps

_DARKEST = 0.08  # luminance below which skin is not taken to be darker
_MOST = 0.45  # of log luminance that light and shade change
_SIDE = 48  # of the flow, in the canonical frame
_LANDMARKS = 140  # that say how a face moves
_HELD = 4  # points on each side of the flow's frame that stay
_STIFFNESS = 1e-4  # of the thin plate between landmarks


def pictures_of(generator: FaceGenerator) -> Pictures | None:
    """Return the pictures of a painted generator, None of others."""
    return generator.pictures if isinstance(generator, StyleGenerator) else None


class SeenFaces(NamedTuple):
    """What a painted generator is told of B faces.

    Args:
        landmarks: (B, 478, 2), as fractions of the frame's side.
        shapes: (B, W) latents of them.
        there: (B,) bool, whether landmarks were found; where not, they are a usual face's.
    """

    landmarks: Tensor
    shapes: Tensor
    there: Tensor


def see(generator: FaceGenerator, faces: Tensor, landmarks: Tensor | None) -> SeenFaces:
    """Return landmarks and shapes of faces; of a generator that knows none, those of length 0.

    Args:
        faces: (B, 1 or 3, S, S) float in [0, 1], aligned.
        landmarks: (B, 478, 2), as fractions of the frame's side; None finds them in the faces.
    """
    pictures, count = pictures_of(generator), len(faces)
    there = torch.ones(count, dtype=torch.bool, device=faces.device)
    if pictures is None:
        return SeenFaces(faces.new_zeros(count, 0, 2), faces.new_zeros(count, 0), there)
    if landmarks is None and count:
        found = read_face(faces.expand(-1, 3, -1, -1))
        there, landmarks = found.there, found.landmarks
    points = pictures.rest.expand(count, -1, -1)
    if landmarks is not None:
        points = torch.where(there[:, None, None], landmarks.to(points), points)
    solver = pictures.solver()
    shapes = torch.cat([pictures.shapes(part, solver) for (part,) in independently(points)])
    return SeenFaces(points, shapes, there)


def stretched(generator: FaceGenerator, moves: Tensor, strength: Tensor) -> Tensor:
    """Return moves of latents that go further or less far.

    Args:
        generator: of the latents. Only a painted one knows shape and light apart: in another, all
            goes as far as light does.
        moves: (B, L, W).
        strength: (B, 2), of shape and of light.
    """
    shape, light = strength.to(moves)[:, :, None, None].unbind(1)
    if pictures_of(generator) is None:
        return moves * light
    return torch.cat([moves[:, :-1] * light, moves[:, -1:] * shape], 1)


def added(faces: Tensor, change: Tensor) -> SynthesizedFaces:
    """Return (B, 3, S, S) faces in [0, 1] with a (B, 1, s, s) change added, as far as that goes."""
    made = (faces + resized(change, faces.shape[-1])).clamp(0, 1)
    return SynthesizedFaces(made - faces)


def changed(
    generator: FaceGenerator,
    faces: Tensor,
    before: Tensor,
    after: Tensor,
    landmarks: Tensor,
    interior: Tensor,
) -> SynthesizedFaces:
    """Change faces as the drawn ones change when their latents do.

    Args:
        generator: of the latents.
        faces: (B, 3, S, S) float in [0, 1], aligned, of any side.
        before, after: (B, L, W), latents of the faces, and what they become.
        landmarks: (B, 478, 2), as `see` returns them.
        interior: (B, 6, 12), as `ExpressionMaps` has it.
    """
    if not isinstance(generator, StyleGenerator) or generator.pictures is None:
        change = generator.synthesis(after) - generator.synthesis(before)
        return added(faces, change)
    return maps_of(generator, faces, before, after, landmarks, interior).applied(faces)


def maps_of(
    generator: StyleGenerator,
    faces: Tensor,
    before: Tensor,
    after: Tensor,
    landmarks: Tensor,
    interior: Tensor,
) -> ExpressionMaps:
    """Return what a change of a painted generator's latents does to faces; see `changed`."""
    pictures = generator.pictures
    assert pictures is not None
    shape, other = before[:, -1], after[:, -1]
    moved = lips_met(landmarks + pictures.displacement(shape, other), landmarks)
    flow = flow_between(pictures, landmarks, moved)
    shift = 2 * canonical_part(flow)

    first, last = generator.still(torch.cat([before, after])).chunk(2)
    drawn = (last - first) / 2
    side = drawn.shape[-1]
    opened = pictures.opened(shape, other).view(-1, 1, 1, 1)  # there the painter has the word
    change = pictures.move(drawn * (1 - pictures.mouth(side) * opened), other)
    skin = warp(resized(luminance(faces), side), shift).clamp(min=_DARKEST)
    lighter = torch.log((1 + change / skin).clamp(min=_DARKEST))
    mask = moving_face_mask(side).to(faces)
    return ExpressionMaps(
        flow,
        _MOST * torch.tanh(lighter / _MOST) * mask,
        lips_of(landmarks),
        lips_of(moved),
        interior,
    )


def flow_between(pictures: Pictures, landmarks: Tensor, moved: Tensor) -> Tensor:
    """Return the flow of faces whose landmarks move, both (B, 478, 2), as `SynthesizedFaces` has
    it: as a thin plate, held at the border of its frame."""
    low, high = FLOW_FRAME
    side = round(_SIDE * (high - low))
    middle = low + (high - low) * (torch.arange(side).to(landmarks) + 0.5) / side
    places = torch.stack([middle.repeat(side), middle.repeat_interleave(side)], 1)
    ends = torch.linspace(low, high, _HELD + 1).to(landmarks)[:-1]
    first, last = torch.full_like(ends, low), torch.full_like(ends, high)
    sides = [(ends, first), (last, ends), (ends.flip(0), last), (first, ends.flip(0))]
    held = torch.cat([torch.stack(pair, 1) for pair in sides]).expand(len(moved), -1, -1)
    some = _spread(pictures)
    points = torch.cat([moved[:, some], held], 1)
    comes_from = torch.cat([(landmarks - moved)[:, some], torch.zeros_like(held)], 1)
    flow = thin_plate(points, comes_from, places, _STIFFNESS)
    stays = (landmarks == moved).all(2).all(1).view(-1, 1, 1, 1)
    return flow.mT.reshape(-1, 2, side, side).masked_fill(stays, 0)


def _spread(pictures: Pictures) -> Tensor:
    """Return the landmarks that say how a face moves, (140,) long."""
    rest = tuple(map(tuple, pictures.rest.tolist()))
    return torch.tensor(_far_apart(rest), device=pictures.rest.device)


@lru_cache(maxsize=8)  # every face asks, and the face at rest does not change
def _far_apart(points: tuple[tuple[float, float], ...]) -> list[int]:
    """Return the landmarks of the inner lips, and others as far apart as can be."""
    rest, chosen = torch.tensor(points), sorted({p for lip in LIPS for p in lip})
    away = torch.cdist(rest, rest[chosen]).amin(1)
    while len(chosen) < _LANDMARKS:
        chosen.append(int(away.argmax()))
        away = torch.minimum(away, (rest - rest[chosen[-1]]).norm(dim=1))
    return chosen
