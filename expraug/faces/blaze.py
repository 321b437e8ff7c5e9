"""From pictures to the faces in them: BlazeFace's candidates, merged, and the crops around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 128
_LOGIT_LIMIT = 100.0
_OVERLAP = 0.5
_ENLARGEMENT = 1.5
"""A face's crop is so many times as large as the longer side of its box."""


class Crop(NamedTuple):
    """A turned square in a picture.

    Args:
        centre: (x, y) in pixels, counted from the picture's corner.
        side: in pixels.
        turn: in radians, clockwise.
    """

    centre: tuple[float, float]
    side: float
    turn: float


def _anchors() -> Tensor:
    """Return the centres of the 896 anchors, (x, y) in [0, 1]."""
    found = []
    for cells, per_cell in ((16, 2), (8, 6)):
        middle = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        found.append(torch.stack([x, y], -1).view(-1, 1, 2).expand(-1, per_cell, -1).reshape(-1, 2))
    return torch.cat(found)


ANCHORS = _anchors()


def letterboxes(pictures: Tensor) -> Tensor:
    """Fit pictures of one size into the detector's square, around its middle.

    Args:
        pictures: (B, 1 or 3, H, W) float in [0, 255].

    Returns:
        (B, 3, 128, 128) float in [-1, 1]; black beside the picture.
    """
    height, width = pictures.shape[2:]
    whole = Crop((width / 2, height / 2), float(max(height, width)), 0.0)
    return cut(pictures, [whole], SIDE, zeros=True) / 127.5 - 1


def cut(pictures: Tensor, crops: Sequence[Crop], side: int, *, zeros: bool = False) -> Tensor:
    """Sample a turned square of each picture, bilinearly.

    Args:
        pictures: (B, 1 or 3, H, W) float.
        crops: the square of each, or one that is the same for all.
        side: of the results, in pixels.
        zeros: what lies outside a picture is 0; else its border is repeated.

    Returns:
        (B, 3, side, side).
    """
    height, width = pictures.shape[2:]
    terms = torch.from_numpy(_terms(crops, height, width)).to(pictures)
    along_x, down_x, along_y, down_y, start_x, start_y = terms[..., None, None]
    # the original maps corners to corners but counts pixels from their middles: half a pixel off
    axis = torch.arange(side, device=pictures.device, dtype=pictures.dtype) / side - 0.5
    across, down = axis[None], axis[:, None]
    grid = pictures.new_empty(len(crops), side, side, 2)
    torch.sub(across * along_x + start_x, down * down_x, out=grid[..., 0])
    torch.add(across * along_y + start_y, down * down_y, out=grid[..., 1])
    mode = "zeros" if zeros else "border"
    grid = grid.expand(len(pictures), -1, -1, -1)
    sampled = F.grid_sample(pictures, grid, padding_mode=mode, align_corners=False)
    return sampled.expand(-1, 3, -1, -1).contiguous()


def _terms(crops: Sequence[Crop], height: int, width: int) -> np.ndarray:
    """Return, of the squares of B pictures, how their pixels lie in `grid_sample`'s [-1, 1]: what
    is across and down in x and in y, and where the middle is, (6, B) float64."""
    terms = []
    for (x, y), extent, turn in crops:
        cos, sin = 2 * extent * math.cos(turn), 2 * extent * math.sin(turn)
        start = (x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1
        terms.append((cos / width, sin / width, sin / height, cos / height, *start))
    return np.array(terms, np.float64).T


def faces_of(
    boxes: Tensor, logits: Tensor, sizes: Sequence[tuple[int, int]], threshold: float, most: int
) -> list[list[Crop]]:
    """Return the crops of the faces in each of B pictures, the surest first.

    Args:
        boxes, logits: (B, 896, 16) and (B, 896), what the detector says of the letterboxed
            pictures. The host waits for them twice, however many pictures there are.
        sizes: (height, width) of the pictures.
        threshold: least probability.
        most: faces at most in each.
    """
    found: list[list[Crop]] = [[] for _ in sizes]
    scores = logits.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).sigmoid()
    sure = (scores >= threshold).nonzero()
    if not len(sure):
        return found
    number, anchor = sure.unbind(1)
    anchors = ANCHORS.to(boxes)[anchor]
    values = boxes[number, anchor].view(-1, 8, 2) / SIDE
    # (n, 8, 2): centre, size, then keypoints, in [0, 1] of the letterbox
    points = torch.cat([values[:, :1] + anchors[:, None], values[:, 1:2],
                        values[:, 2:] + anchors[:, None]], 1)  # fmt: skip
    columns = (number[:, None].to(points), scores[number, anchor][:, None], points.flatten(1))
    told = torch.cat(columns, 1).cpu().double().numpy()
    for part in np.split(told, np.flatnonzero(np.diff(told[:, 0])) + 1):
        picture = int(part[0, 0])
        merged = _merge(part[:, 2:].reshape(-1, 8, 2), part[:, 1])
        found[picture] = [_crop(face, *sizes[picture]) for face in merged[:most]]
    return found


def _crop(face: np.ndarray, height: int, width: int) -> Crop:
    """Return the crop around a face, (8, 2) in [0, 1] of a picture's letterbox."""
    longer = max(height, width)
    centre = face[0] * longer - ((longer - width) / 2, (longer - height) / 2)
    one, other = face[2:4] * longer
    turn = math.atan2(other[1] - one[1], other[0] - one[0])
    extent = float((face[1] * longer).max())
    return Crop((centre[0], centre[1]), extent * _ENLARGEMENT, turn)


def _merge(points: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Return the weighted means of candidates that overlap, (8, 2) each, the surest first."""
    order = np.argsort(-scores, kind="stable")
    low, high = points[:, 0] - points[:, 1] / 2, points[:, 0] + points[:, 1] / 2
    merged = []
    while len(order):
        first = order[0]
        shared = np.minimum(high[order], high[first]) - np.maximum(low[order], low[first])
        overlap = shared.clip(min=0).prod(1)
        area = (high - low).prod(1)
        alike = overlap / (area[order] + area[first] - overlap) > _OVERLAP
        alike[0] = True
        group, order = order[alike], order[~alike]
        weights = scores[group] / scores[group].sum()
        corners = np.stack([low[group], high[group]], 1)
        box = (corners * weights[:, None, None]).sum(0)
        keypoints = (points[group, 2:] * weights[:, None, None]).sum(0)
        middle, extent = box.mean(0), box[1] - box[0]
        merged.append(np.concatenate([[middle, extent], keypoints]))
    return merged


def place(points: np.ndarray, crops: Sequence[Crop], side: int) -> np.ndarray:
    """Return where points of crops are in their pictures.

    Args:
        points: (B, N, 3) float64, (x, y) in pixels of the crop, and depth in the same unit.
        crops: the squares.
        side: of the crops, in pixels.
    """
    extent = np.array([crop.side for crop in crops])[:, None]
    cos, sin = (np.array([[f(crop.turn)] for crop in crops]) for f in (math.cos, math.sin))
    middle = np.array([crop.centre for crop in crops])
    placed = points * (extent / side)[..., None]
    x, y = placed[..., 0] - extent / 2, placed[..., 1] - extent / 2
    placed[..., 0] = x * cos - y * sin + middle[:, :1]
    placed[..., 1] = x * sin + y * cos + middle[:, 1:]
    return placed
