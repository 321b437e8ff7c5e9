"""What a step of the painter's training sees: open mouths of all kinds, and codes of others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.mouth import MouthWindow
from expraug.networks.mouth_painter import interior_of
from recipes.mouth_painter.data import Mouths
from recipes.real_faces import FER2013, LFW, LONDON

SHARES = {LONDON: 0.2, LFW: 0.5, FER2013: 0.3}
"""How often each set is drawn: London alone is sharp, and FER2013 alone has many wide mouths."""
EVENNESS = 0.7
"""A bin of n like openings is drawn in proportion to n to the power of 1 less this."""
ALIKE = 48
"""Mouths from which another's code is drawn, nearest in shape."""
SHARPENED = 0.5
"""Share of LFW's mouths that are made as sharp as London's, of which none is wide open."""
_BLUR, _MOST = 1.1, 4.0  # standard deviation in pixels that is undone, and the largest gain
UNLIKE = 0.2
"""Share of those codes that come from any mouth instead: teeth must not be stretched by a code."""


@dataclass
class Batch:
    """What one step sees of B mouths.

    Args:
        grey: (B, 1, 64, 96) luminance in [0, 1].
        window: the lips.
        code: (B, 6, 12) interiors, of the mouths themselves or of others.
        own: (B,) bool, of themselves.
        sharpness: (B,) long, 0 for sharp ones, else the set, an index into
            `recipes.real_faces.SETS`.
    """

    grey: Tensor
    window: MouthWindow
    code: Tensor
    own: Tensor
    sharpness: Tensor


class Draw:
    """Draws batches.

    Args:
        mouths: grey.
        size: of a batch.
        others: share of the mouths that get another's code.
    """

    def __init__(self, mouths: Mouths, size: int, others: float) -> None:
        self.mouths, self.size, self.others = mouths, size, others
        self.weights = drawing_weights(mouths)
        self.codes, self.near = codes_of(mouths), nearest(mouths, mouths, ALIKE)

    def __call__(self) -> Batch:
        """Return a batch, drawn from torch's global random generator."""
        rows = torch.multinomial(self.weights, self.size, replacement=True)
        count, device = self.size, rows.device
        mouths = self.mouths.take(rows)
        own = torch.rand(count, device=device) >= self.others
        alike = self.near[rows, torch.randint(self.near.shape[1], (count,), device=device)]
        other = torch.multinomial(self.weights, count, replacement=True)
        other = torch.where(torch.rand(count, device=device) < UNLIKE, other, alike)
        code = varied(self.codes[torch.where(own, rows, other)])
        mirror = torch.rand(count, device=device) < 0.5
        flipped = mouths.mirrored()
        pick = mirror[:, None, None]
        window = MouthWindow(
            mouths.upper[:, 0],
            mouths.upper[:, 0],
            torch.where(pick, flipped.upper, mouths.upper),
            torch.where(pick, flipped.lower, mouths.lower),
        )
        code = torch.where(pick, code.flip(2), code)
        grey = torch.where(pick[..., None], flipped.pixels, mouths.pixels).float() / 255
        sharper = (mouths.origin == LFW) & (torch.rand(count, device=device) < SHARPENED)
        sharp = sharper | (mouths.origin == LONDON)
        grey = torch.where(sharper[:, None, None, None], sharpened(grey), softened(grey))
        sharpness = torch.where(sharp, 0, mouths.origin)
        return Batch(grey, window, code, own, sharpness)


def codes_of(mouths: Mouths) -> Tensor:
    """Return the codes of grey mouths, (N, 6, 12)."""
    parts = [mouths.take(part) for part in _parts(mouths)]
    return torch.cat([interior_of(p.pixels.float() / 255, p.window()) for p in parts])


def nearest(mouths: Mouths, among: Mouths, count: int) -> Tensor:
    """Return the places of the mouths that are open most alike, (N, count), the nearest first."""
    shape, others = shape_of(mouths), shape_of(among)
    count = min(count, len(among))
    parts = [torch.cdist(shape[part], others) for part in _parts(mouths)]
    return torch.cat([part.topk(count, largest=False).indices for part in parts])


def _parts(mouths: Mouths) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(len(mouths), device=mouths.gap.device), 512)


def shape_of(mouths: Mouths) -> Tensor:
    """Return what tells like openings from unlike ones, (N, 3)."""
    gap, width = mouths.gap, mouths.width
    sag = (mouths.upper[:, 5, 1] - mouths.upper[:, (0, -1), 1].mean(1)) / width
    return torch.stack([(gap / 10).log(), 2 * gap / width, 2 * sag], 1)


def drawing_weights(mouths: Mouths) -> Tensor:
    """Return how often each mouth is drawn, (N,) float.

    Within a set, rare openings are drawn nearly as often as smiles.
    """
    gap = torch.bucketize(mouths.gap, mouths.gap.new_tensor([6.0, 9, 13, 18, 24, 31]))
    wide = torch.bucketize(mouths.gap / mouths.width, mouths.gap.new_tensor([0.15, 0.3, 0.5, 0.8]))
    cell = (mouths.origin * 7 + gap) * 5 + wide
    weights = torch.bincount(cell).float()[cell] ** -EVENNESS
    for origin, share in SHARES.items():  # of what there is
        here = mouths.origin == origin
        if here.any():
            weights[here] *= share / weights[here].sum()
    return weights


def varied(code: Tensor) -> Tensor:
    """Return (B, 6, 12) codes, some of them blurred, flat or noisy, as those of blurred exemplars
    are."""
    count, device = len(code), code.device
    chance = torch.rand(count, 1, 1, device=device)
    padded = F.pad(code[:, None], (1, 1, 1, 1), mode="replicate")
    soft = F.avg_pool2d(padded, 3, 1)[:, 0]
    code = torch.where(chance < 0.35, soft, code)
    code = torch.where(chance < 0.08, code.mean((1, 2), keepdim=True).expand_as(code), code)
    light = 0.06 * torch.randn(count, 1, 1, device=device)
    return code + light + 0.03 * torch.randn_like(code)


def sharpened(grey: Tensor) -> Tensor:
    """Return (B, 1, 64, 96) windows with a Gaussian blur undone (Wiener's filter)."""
    high, wide = grey.shape[-2:]
    up = torch.fft.fftfreq(high, device=grey.device)[:, None]
    along = torch.fft.rfftfreq(wide, device=grey.device)
    blur = torch.exp(-2 * (torch.pi * _BLUR) ** 2 * (up**2 + along**2))
    gain = ((1 + _MOST**-2) / (blur**2 + _MOST**-2)).sqrt()
    found: Tensor = torch.fft.irfft2(torch.fft.rfft2(grey) * gain, s=(high, wide))
    return found.clamp(0, 1)


def softened(grey: Tensor) -> Tensor:
    """Return (B, 1, 64, 96) windows, some of them blurred: the paint is to be as sharp as they
    are."""
    wide = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    kernel = grey.new_tensor([1.0, 2, 1])
    kernel = (kernel[:, None] * kernel / 16)[None, None]
    soft = F.conv2d(wide, kernel)
    return torch.where(torch.rand(len(grey), 1, 1, 1, device=grey.device) < 0.15, soft, grey)
