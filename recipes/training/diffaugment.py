"""DiffAugment (Zhao et al. 2020): what a discriminator sees is varied, real and made alike.

With few faces a discriminator learns them by heart; faces that it never sees twice the same it
cannot, and since the variation is differentiable, the generator need not learn to draw it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def diffaugment(faces: Tensor) -> Tensor:
    """Return (B, 1, S, S) faces, each relit, moved by up to an eighth, and a quarter of it hidden.

    Drawn from torch's global random generator.
    """
    return _hide(_move(_relight(faces)))


def _relight(faces: Tensor) -> Tensor:
    shape = (len(faces), 1, 1, 1)
    light = torch.rand(shape, device=faces.device) - 0.5
    contrast = torch.rand(shape, device=faces.device) + 0.5
    mean = faces.mean((1, 2, 3), keepdim=True)
    return (faces - mean) * contrast + mean + 0.5 * light


def _move(faces: Tensor) -> Tensor:
    count, side = len(faces), faces.shape[-1]
    reach = side // 8
    place = torch.arange(side, device=faces.device)
    rows, columns = (
        place + torch.randint(0, 2 * reach + 1, (count, 1), device=faces.device) for _ in range(2)
    )
    padded = F.pad(faces, [reach] * 4)
    sample = torch.arange(count, device=faces.device)[:, None, None]
    return padded[sample, 0, rows[:, :, None], columns[:, None, :]][:, None]


def _hide(faces: Tensor) -> Tensor:
    count, side = len(faces), faces.shape[-1]
    place = torch.arange(side, device=faces.device)
    rows, columns = (
        (place - torch.randint(0, side, (count, 1), device=faces.device)).abs() < side // 4
        for _ in range(2)
    )
    hidden = rows[:, None, :, None] & columns[:, None, None, :]
    return faces * ~hidden
