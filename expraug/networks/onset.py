"""How an expression comes: slowly, then fast, then slowly again, and then it stays."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RHYTHM = 3
"""Numbers of the noise that `rhythm` takes."""
_START = (0.0, 0.25)  # earliest and latest, as a share of the clip
_DURATION = (0.35, 0.75)
_LEAD = 0.25  # of one half of the face over the other, beside the start


def onset(z: Tensor, frames: int) -> Tensor:
    """Return how far the expression has come in each frame of a clip: (B, T), from 0 to 1.

    Half a wave of the cosine, flat before and after it. It starts the later the larger z[:, 0], and
    lasts the longer the larger z[:, 1]; both are spread evenly over what a clip can show, and 0
    stands for the middle. The first frame is 0 and the last 1, whatever z is.

    Args:
        z: (B, Z) draws of the standard normal distribution, Z at least 2.
        frames: number of frames T, at least 2.
    """
    late, slow = torch.special.ndtr(z[:, :2]).unbind(1)
    start = _START[0] + (_START[1] - _START[0]) * late
    duration = _DURATION[0] + (_DURATION[1] - _DURATION[0]) * slow
    time = torch.linspace(0, 1, frames, dtype=z.dtype, device=z.device)
    gone = ((time - start[:, None]) / duration[:, None]).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(math.pi * gone)


def rhythm(z: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Return the onset of the upper and of the lower half of faces, (B, T) each.

    Brows and mouth do not move in step: the larger z[:, 2], the earlier the brows, by 3 % of the
    clip for 1.

    Args:
        z: as `onset` takes it, Z at least 3.
        frames: number of frames T, at least 2.
    """
    earlier = F.pad(_LEAD * z[:, 2:RHYTHM], (0, 1))
    return onset(z[:, :2] - earlier, frames), onset(z[:, :2] + earlier, frames)
