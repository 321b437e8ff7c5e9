"""Augmentations of whole batches of grey faces, on whatever device they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

AUGMENTATIONS = ("none", "flip_crop", "randaugment", "classical")
_GROUP = 8  # faces that share RandAugment's operations: one by one would take most of the time


def augment(kind: str, faces: Tensor, crop: int, shift: int, magnitude: int = 9) -> Tensor:
    """Return (B, 1, crop, crop) float in [0, 1] of (B, S, S) uint8 faces, augmented.

    Draws come from torch's global random generator.

    Args:
        kind: one of `AUGMENTATIONS`; all but "none" flip and move the face. "randaugment" (Cubuk et
            al. 2020) does two operations more, "classical" turns, scales, relights, blurs and hides
            a part.
        faces: aligned.
        crop: side of what the net sees, from the middle of the frame.
        shift: pixels that the crop moves by at most.
        magnitude: of RandAugment, 0 to 30.
    """
    if kind == "none":
        return centre(faces, crop)
    if kind == "classical":
        return _classical(faces, crop, shift)
    if kind == "randaugment":
        policy = v2.RandAugment(num_ops=2, magnitude=magnitude)
        faces = torch.cat([policy(group) for group in torch.split(faces[:, None], _GROUP)])[:, 0]
    elif kind != "flip_crop":
        raise ValueError(f"no augmentation {kind!r}; there are {', '.join(AUGMENTATIONS)}")
    count, side = len(faces), faces.shape[-1]
    start = (side - crop) // 2
    corner = start + torch.randint(-shift, shift + 1, (2, count, 1), device=faces.device)
    axis = torch.arange(crop, device=faces.device)
    rows, columns = corner + axis
    flipped = torch.rand(count, 1, device=faces.device) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    batch = torch.arange(count, device=faces.device).view(-1, 1, 1)
    return faces[batch, rows[:, :, None], columns[:, None]][:, None].float() / 255


def centre(faces: Tensor, crop: int) -> Tensor:
    """Return the middle of the frame, as a test sees it: (B, 1, crop, crop) float in [0, 1]."""
    start = (faces.shape[-1] - crop) // 2
    return faces[:, None, start : start + crop, start : start + crop].float() / 255


def _classical(faces: Tensor, crop: int, shift: int) -> Tensor:
    count, side, device = len(faces), faces.shape[-1], faces.device

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(count, device=device) * (high - low) + low

    angle, zoom = draw(-0.2, 0.2), draw(0.88, 1.12) * crop / side
    mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    move = 2 * shift / side
    rows = [torch.cos(angle) * zoom * mirror, -torch.sin(angle) * zoom, draw(-move, move)]
    rows += [torch.sin(angle) * zoom * mirror, torch.cos(angle) * zoom, draw(-move, move)]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), [count, 1, crop, crop], False)
    x = faces[:, None].float() / 255
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    x = x.clamp(1e-3, 1) ** draw(-0.35, 0.35).exp().view(-1, 1, 1, 1)
    soft = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = torch.where((draw(0, 1) < 0.25).view(-1, 1, 1, 1), soft, x)
    across, down = draw(0, crop).view(-1, 1, 1), draw(0, crop).view(-1, 1, 1)
    width, height = draw(crop / 12, crop / 5).view(-1, 1, 1), draw(crop / 12, crop / 5)
    axis = torch.arange(crop, device=device)
    hidden = ((axis - across).abs() < width) & (
        (axis.view(-1, 1) - down).abs() < height.view(-1, 1, 1)
    )
    hidden &= draw(0, 1).view(-1, 1, 1) < 0.35
    return torch.where(hidden[:, None], x.mean((1, 2, 3), keepdim=True), x)


def standardise(x: Tensor) -> Tensor:
    """Return (B, 1, H, W) faces with the brightness and contrast of each taken out."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) / (x.std((1, 2, 3), keepdim=True) + 0.02)


def extra_samples(kind: str, faces: Tensor, seed: int) -> Tensor:
    """Return altered copies of (N, S, S) uint8 faces, as many: what synthetics compete with.

    Args:
        kind: "noise" (Gaussian, of a standard deviation up to a tenth of the range) or "classical"
            (turned, scaled, moved, relit, blurred, a part hidden).
        faces: real ones.
        seed: of the draws.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        side = faces.shape[-1]
        altered = []
        for part in torch.split(faces.cpu(), 512):
            if kind == "noise":
                level = torch.rand(len(part), 1, 1) * 25.5
                x = part.float() + torch.randn(part.shape) * level
            elif kind == "classical":
                x = _classical(part, side, side // 16)[:, 0] * 255
            else:
                raise ValueError(f"extra samples are 'noise' or 'classical', not {kind!r}")
            altered.append(x.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(altered) if altered else faces
