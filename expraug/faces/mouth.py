"""The mouth of an aligned face: a window around it, and the outline of its inside.

The inside lies between two curves, the inner edges of the upper and the lower lip. Lip coordinates
follow them: u runs from one corner to the other, v from the upper lip to the lower one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.planes import box_means

UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
"""Landmarks of the inner edge of the upper lip, from corner to corner."""
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""Landmarks of the inner edge of the lower lip, with the same corners."""
HEIGHT, WIDTH = 64, 96
"""Of the window, in pixels."""
LIPS = (UPPER_LIP, LOWER_LIP)
REACH = 0.48
"""Width of the window, as a fraction of the frame's side: a mouth is seen at the size of its face,
so that teeth have one size. Only a mouth that would not fit is seen smaller."""
_BESIDE = (1.3, 2.0)  # least width of the window, by the mouth's width and by its opening
_OPENING = (0.02, 0.06)  # by which a mouth opens until what is in it is new
_TINY = 1e-6
_SLIGHTEST = 1e-3  # pixels between two points of a curve


@dataclass(frozen=True)
class MouthWindow:
    """Where the windows around B mouths lie, and the lips in them.

    Args:
        centre: (B, 2) of each window in the canonical frame, (x, y) as fractions of its side.
        across: (B, 2) from the window's left edge to its right edge, in the same units: level with
            the corners of the mouth.
        upper, lower: (B, 11, 2) inner edges of the lips, (x, y) in pixels of the window.
    """

    centre: Tensor
    across: Tensor
    upper: Tensor
    lower: Tensor

    @classmethod
    def around(cls, lips: Tensor) -> MouthWindow:
        """Return the windows around mouths.

        Args:
            lips: (B, 2, 11, 2) float, as `lips_of` returns them.
        """
        upper, lower = lips.unbind(1)
        corners = upper[:, -1] - upper[:, 0]
        width = corners.norm(dim=1, keepdim=True).clamp(min=1e-4)
        along = corners / width
        middle = (upper[:, 0] + upper[:, -1]) / 2
        top, bottom = (
            ((lip - middle[:, None]) * turned(along)[:, None]).sum(2) for lip in (upper, lower)
        )
        top, bottom = top.amin(1, keepdim=True), bottom.amax(1, keepdim=True)
        size = torch.maximum(_BESIDE[0] * width, _BESIDE[1] * (bottom - top)).clamp(min=REACH)
        return cls.at(middle + (top + bottom) / 2 * turned(along), along * size, upper, lower)

    @classmethod
    def at(cls, centre: Tensor, across: Tensor, upper: Tensor, lower: Tensor) -> MouthWindow:
        """Return windows at given places, with lips, (B, 11, 2), in fractions of the frame."""
        size = across.norm(dim=1)[:, None]
        down = turned(across)
        lips = []
        for lip in (upper, lower):
            there = (lip - centre[:, None]) / size[:, None] ** 2
            x, y = (there * across[:, None]).sum(2), (there * down[:, None]).sum(2)
            lips.append(torch.stack([x * WIDTH + WIDTH / 2, y * WIDTH + HEIGHT / 2], 2))
        return cls(centre, across, *lips)

    def cut(self, faces: Tensor) -> Tensor:
        """Return (B, C, 64, 96): the windows, cut out of aligned (B, C, S, S) faces."""
        x, y = _middles(WIDTH, faces) / WIDTH - 0.5, (_middles(HEIGHT, faces) - HEIGHT / 2) / WIDTH
        down = turned(self.across)
        place = (
            self.centre[:, None, None]
            + x[None, None, :, None] * self.across[:, None, None]
            + y[None, :, None, None] * down[:, None, None]
        )
        return F.grid_sample(faces, 2 * place - 1, padding_mode="border", align_corners=False)

    def put_back(self, windows: Tensor, side: int) -> Tensor:
        """Return (B, C, S, S) with (B, C, 64, 96) windows where they belong and 0 elsewhere.

        Args:
            windows: float.
            side: S, in pixels.
        """
        # a pixel of a small face shows the mean of several pixels of the window
        finer = max(1, math.ceil(WIDTH / REACH / side - 0.25))
        top, bottom, left, right = self._box(side)
        squared = self.across.square().sum(1)[:, None, None]
        x, y = (
            _middles(side * finer, windows)[start * finer : end * finer] / (side * finer)
            for start, end in ((left, right), (top, bottom))
        )
        x = x[None, None, :] - self.centre[:, 0, None, None]
        y = y[None, :, None] - self.centre[:, 1, None, None]
        ax, ay = self.across[:, 0, None, None], self.across[:, 1, None, None]
        # halves of the window's width and height are 1
        along, down = (x * ax + y * ay) * 2, (y * ax - x * ay) * 2 * WIDTH / HEIGHT
        grid = torch.stack([along / squared, down / squared], 3)
        found = F.grid_sample(windows, grid, padding_mode="zeros", align_corners=False)
        found = box_means(found, finer)
        return F.pad(found, (left, side - right, top, side - bottom))

    def _box(self, side: int) -> tuple[int, int, int, int]:
        """Return the (top, bottom, left, right) pixels of the frame that the windows can touch; the
        whole frame where to know them would mean to wait for another device."""
        if self.centre.device.type != "cpu" or not len(self.centre):
            return 0, side, 0, side
        half = (self.across.abs() + self.across.abs().flip(1) * HEIGHT / WIDTH) / 2
        first, last = (self.centre - half).amin(0), (self.centre + half).amax(0)
        # beside the window a pixel may show some of it still
        x0, y0 = (min(max(int(edge * side) - 2, 0), side - 1) for edge in first.tolist())
        x1, y1 = (min(max(int(edge * side) + 3, 1), side) for edge in last.tolist())
        return y0, max(y1, y0 + 1), x0, max(x1, x0 + 1)

    def outline(self) -> MouthOutline:
        """Return the outline of the inside at every column of the window."""
        columns = _middles(WIDTH, self.upper).expand(len(self.upper), -1)
        start, end = self.upper[:, :1, 0], self.upper[:, -1:, 0]
        (top, top_slope), (bottom, bottom_slope) = (
            _height(lip, columns) for lip in (self.upper, self.lower)
        )
        y = _middles(HEIGHT, self.upper)[None, :, None]
        # lips that cross have nothing between them
        below = (y - top[:, None]) / (1 + top_slope[:, None] ** 2).sqrt()
        above = (bottom[:, None] - y) / (1 + bottom_slope[:, None] ** 2).sqrt()
        u = (columns - start) / (end - start).clamp(min=_SLIGHTEST)
        v = (y - top[:, None]) / (bottom - top)[:, None].clamp(min=_SLIGHTEST)
        beside = ((u < 0) | (u > 1))[:, None]
        depth = torch.minimum(below, above).masked_fill(beside, -float(WIDTH))
        return MouthOutline(
            depth[:, None], below[:, None], above[:, None], u[:, None, None], v[:, None]
        )

    def lip_points(self, rows: int, columns: int) -> Tensor:
        """Return pixels of the window at even lip coordinates, (B, rows, columns, 2), (x, y)."""
        u, v = _middles(columns, self.upper) / columns, _middles(rows, self.upper) / rows
        start, end = self.upper[:, :1, 0], self.upper[:, -1:, 0]
        x = start + u * (end - start)
        top, bottom = (_height(lip, x)[0][:, None] for lip in (self.upper, self.lower))
        y = top + v[None, :, None] * (bottom - top).clamp(min=0)
        return torch.stack([x[:, None].expand_as(y), y], 3)


@dataclass(frozen=True)
class MouthOutline:
    """The inside of B mouths in their windows.

    Args:
        depth: (B, 1, 64, 96) distance to the nearer lip, in pixels of the window, negative outside.
        below, above: (B, 1, 64, 96) distance below the upper lip and above the lower one.
        u: (B, 1, 1, 96), from 0 to 1 between the corners of the mouth.
        v: (B, 1, 64, 96), from 0 to 1 between the lips.
    """

    depth: Tensor
    below: Tensor
    above: Tensor
    u: Tensor
    v: Tensor


def lips_met(moved: Tensor, landmarks: Tensor) -> Tensor:
    """Return moved landmarks whose lips do not cross: they meet half-way.

    Args:
        moved, landmarks: (B, 478, 2), after and before; lips that crossed before may still do.
    """
    upper, lower = list(UPPER_LIP[1:-1]), list(LOWER_LIP[1:-1])
    gaps = [(points[:, lower, 1] - points[:, upper, 1]) for points in (moved, landmarks)]
    over = torch.relu(gaps[1].clamp(max=0) - gaps[0]) / 2
    down = torch.zeros_like(moved[..., 0])
    down[:, upper], down[:, lower] = -over, over
    return torch.stack([moved[..., 0], moved[..., 1] + down], 2)


def lips_of(landmarks: Tensor) -> Tensor:
    """Return the inner edges of the lips, (B, 2, 11, 2): the upper one first, corner to corner.

    Args:
        landmarks: (B, 478, 2) float, (x, y) as fractions of the canonical frame's side.
    """
    return landmarks[:, torch.tensor(LIPS, device=landmarks.device)]


def mouth_width(lips: Tensor) -> Tensor:
    """Return the distance between the corners of (B, 2, 11, 2) lips, (B, 1), never 0."""
    across = lips[:, 0, -1] - lips[:, 0, 0]
    return across.square().sum(1, keepdim=True).sqrt().clamp(min=_TINY)


def lip_gaps(lips: Tensor) -> Tensor:
    """Return how far (B, 2, 11, 2) lips are apart between the corners, (B, 9), as a share of the
    width of the mouth."""
    upper, lower = lips[:, :, 1:-1, 1].unbind(1)
    return (lower - upper).clamp(min=0) / mouth_width(lips)


def painted_share(before: Tensor, after: Tensor) -> Tensor:
    """Return how much of the mouth's inside is painted, (B, 1) in [0, 1]: a mouth that hardly opens
    further keeps its own.

    Args:
        before, after: (B, 2, 11, 2) lips.
    """
    low, high = _OPENING
    wider = (lip_gaps(after) - lip_gaps(before)).mean(1, keepdim=True)
    return ((wider - low) / (high - low)).clamp(0, 1)


def turned(vectors: Tensor) -> Tensor:
    """Return (B, 2) vectors, (x, y), turned by a quarter: from rightwards to downwards."""
    return torch.stack([-vectors[:, 1], vectors[:, 0]], 1)


def sample_window(windows: Tensor, points: Tensor) -> Tensor:
    """Return (B, C, h, w) samples of windows at (B, h, w, 2) points in their pixels."""
    size = points.new_tensor([windows.shape[-1], windows.shape[-2]])
    grid = points * 2 / size - 1
    return F.grid_sample(windows, grid, padding_mode="border", align_corners=False)


def curve_height(curve: Tensor, x: Tensor) -> Tensor:
    """Return (B, N) heights of (B, 11, 2) curves at (B, N) places, beyond the ends as there."""
    return _height(curve, x)[0]


def _middles(count: int, like: Tensor) -> Tensor:
    """Return the middles of so many pixels, counted from the edge of the first."""
    return torch.arange(count, device=like.device, dtype=like.dtype) + 0.5


def _height(curve: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return height and slope of (B, 11, 2) curves at (B, N) places."""
    steps = torch.arange(curve.shape[1], device=curve.device, dtype=curve.dtype) * _SLIGHTEST
    # on a turned head the lip may double back: what is hidden there takes no room
    along = (curve[..., 0].cummax(1).values + steps).contiguous()
    right = torch.searchsorted(along, x.contiguous()).clamp(1, curve.shape[1] - 1)
    x0, x1 = along.gather(1, right - 1), along.gather(1, right)
    y0, y1 = curve[..., 1].gather(1, right - 1), curve[..., 1].gather(1, right)
    slope = (y1 - y0) / (x1 - x0)
    return y0 + slope * (x - x0).clamp(min=0).minimum(x1 - x0), slope
