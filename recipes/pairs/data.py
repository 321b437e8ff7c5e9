"""What trainings on pairs do to faces, and how they name what they keep."""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.expressions import Expression

MOVES = (
    *(70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285),
    *(33, 160, 159, 158, 133, 153, 145, 144, 263, 387, 386, 385, 362, 380, 374, 373),
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178),
    *(98, 327, 49, 279, 9),
)
"""Landmarks of brows, lids, lips and the wings of the nose."""
_ANYWHERE = 0.2  # that a place counts, where one of these is on average 1
HARD = {Expression.SAD: 1.5, Expression.FEAR: 1.5, Expression.DISGUST: 1.5}
"""How much oftener than others pairs are drawn of expressions that students move least for."""


def vary_alike(faces: Tensor, count: int, mirror: bool = True) -> Tensor:
    """Relight and blur (B, 1, S, S) faces in [0, 1], and mirror half of them if wished; those that
    lie `count` or a multiple of it apart alike."""
    count = min(len(faces), count)
    gamma = torch.empty(count, device=faces.device).uniform_(-0.3, 0.3).exp()
    soft = (torch.rand(count, device=faces.device) < 0.3).float()
    turned = torch.rand(count, device=faces.device) < 0.5 * mirror
    repeat = -(-len(faces) // count)
    gamma, soft, turned = (
        v.repeat(repeat)[: len(faces)].view(-1, 1, 1, 1) for v in (gamma, soft, turned)
    )
    faces = torch.where(turned, faces.flip(3), faces).clamp(min=1e-3) ** gamma
    half = F.interpolate(faces, scale_factor=0.4, mode="bilinear", antialias=True)
    blurred = F.interpolate(half, faces.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(faces, blurred, soft)


def somebody_else(person: Tensor) -> Tensor:
    """Return, for each of (B,) numbers of people, the place of somebody else among them, drawn from
    torch's global random generator; anybody's, where all are one person."""
    stranger = person[:, None] != person
    return (stranger + torch.rand(stranger.shape, device=person.device)).argmax(1)


def importance(mesh: np.ndarray) -> Tensor:
    """Return how much each place counts in a flow, (1, 64, 64) float, 1 in the mean: most where
    brows, lids and lips are.

    Args:
        mesh: (N, 478, 2) float landmarks of faces, canonical.
    """
    side = 64
    places = torch.from_numpy(mesh[:, list(MOVES)]).float().flatten(0, 1)
    cell = (places * side).long().clamp(0, side - 1)
    hits = torch.bincount(cell[:, 1] * side + cell[:, 0], minlength=side**2).float()
    near = hits.view(1, 1, side, side)
    for _ in range(3):
        near = F.avg_pool2d(near, 5, 1, 2)
    near = near[0] + near[0].flip(2)
    weight = _ANYWHERE + near / near.mean()
    return weight / weight.mean()


def describe(*things: object) -> str:
    """Return what a cached file was made of, as JSON."""
    return json.dumps([str(t) for t in things])


def target_weights(target: Tensor, balance: float) -> Tensor:
    """Return how often pairs are drawn, (N,) float.

    Args:
        target: (N,) long, values of `Expression`.
        balance: a target with n pairs is drawn in proportion to n to 1 less this, and some more
            often (`HARD`).
    """
    count = torch.bincount(target, minlength=len(Expression)).float()
    weight = count.clamp(min=1) ** -balance
    for expression, factor in HARD.items():
        weight[int(expression)] *= factor
    return weight[target]
