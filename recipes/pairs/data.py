"""What trainings on pairs do to faces, and how they name what they keep."""

from __future__ import annotations

import json

import torch
import torch.nn.functional as F
from torch import Tensor


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
    stranger |= ~stranger.any(1, keepdim=True)
    return torch.multinomial(stranger.float(), 1)[:, 0]


def describe(*things: object) -> str:
    """Return what a cached file was made of, as JSON."""
    return json.dumps([str(t) for t in things])
