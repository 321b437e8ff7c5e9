"""From pictures to the faces in them: BlazeFace's candidates, merged, and the crops around them."""

from __future__ import annotations

import math
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


def letterbox(picture: Tensor) -> Tensor:
    """Fit a picture into the detector's square, around its middle.

    Args:
        picture: (3, H, W) float in [0, 255].

    Returns:
        (3, 128, 128) float in [-1, 1]; black beside the picture.
    """
    return letterboxes(picture[None])[0]


def letterboxes(pictures: Tensor) -> Tensor:
    """Do what `letterbox` does with (B, 3, H, W) pictures: (B, 3, 128, 128)."""
    height, width = pictures.shape[2:]
    whole = Crop((width / 2, height / 2), float(max(height, width)), 0.0)
    return cut_alike(pictures, whole, SIDE, zeros=True) / 127.5 - 1


def cut(picture: Tensor, crop: Crop, side: int, *, zeros: bool = False) -> Tensor:
    """Sample a turned square of a picture, bilinearly.

    Args:
        picture: (3, H, W) float.
        crop: the square.
        side: of the result, in pixels.
        zeros: what lies outside the picture is 0; else its border is repeated.

    Returns:
        (3, side, side).
    """
    return cut_alike(picture[None], crop, side, zeros=zeros)[0]


def cut_alike(pictures: Tensor, crop: Crop, side: int, *, zeros: bool = False) -> Tensor:
    """Do what `cut` does with the same square of (B, 3, H, W) pictures: (B, 3, side, side)."""
    if pictures.stride(1) == 0:  # grey, its channels one and the same
        return _cut(pictures[:, :1], crop, side, zeros).expand(-1, pictures.shape[1], -1, -1)
    return _cut(pictures, crop, side, zeros)


def _cut(picture: Tensor, crop: Crop, side: int, zeros: bool) -> Tensor:
    height, width = picture.shape[2:]
    # the original maps corners to corners but counts pixels from their middles: half a pixel off
    axis = torch.arange(side, device=picture.device, dtype=picture.dtype) / side - 0.5
    cos, sin = 2 * crop.side * math.cos(crop.turn), 2 * crop.side * math.sin(crop.turn)
    across, down = axis[None], axis[:, None]
    grid = picture.new_empty(1, side, side, 2)
    x = across * (cos / width) + ((crop.centre[0] + 0.5) * 2 / width - 1)
    y = across * (sin / height) + ((crop.centre[1] + 0.5) * 2 / height - 1)
    torch.sub(x, down * (sin / width), out=grid[0, ..., 0])
    torch.add(y, down * (cos / height), out=grid[0, ..., 1])
    mode = "zeros" if zeros else "border"
    grid = grid.expand(len(picture), -1, -1, -1)
    return F.grid_sample(picture, grid, padding_mode=mode, align_corners=False)


def faces_of(
    boxes: Tensor, logits: Tensor, size: tuple[int, int], threshold: float, most: int
) -> list[Crop]:
    """Return the crops of the faces in one picture, the surest first.

    Args:
        boxes, logits: (896, 16) and (896,), what the detector says of its letterboxed picture.
        size: (height, width) of the picture.
        threshold: least probability.
        most: faces at most.
    """
    scores = logits.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).sigmoid()
    sure = (scores >= threshold).nonzero().flatten()
    if not len(sure):
        return []
    anchors = ANCHORS.to(boxes)[sure]
    values = boxes[sure].view(-1, 8, 2) / SIDE
    # (n, 8, 2): centre, size, then keypoints, in [0, 1] of the letterbox
    points = torch.cat([values[:, :1] + anchors[:, None], values[:, 1:2],
                        values[:, 2:] + anchors[:, None]], 1)  # fmt: skip
    merged = _merge(points.cpu().double().numpy(), scores[sure].cpu().double().numpy())
    longer = max(size)
    pad = np.array([(longer - size[1]) / 2, (longer - size[0]) / 2])
    crops = []
    for face in merged[:most]:
        centre, extent = face[0] * longer - pad, face[1] * longer
        one, other = face[2:4] * longer
        turn = math.atan2(other[1] - one[1], other[0] - one[0])
        crops.append(Crop((centre[0], centre[1]), float(extent.max()) * _ENLARGEMENT, turn))
    return crops


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


def place(points: np.ndarray, crop: Crop, side: int) -> np.ndarray:
    """Return where points of a crop are in its picture.

    Args:
        points: (N, 2) or (N, 3), (x, y) in pixels of the crop, and depth in the same unit.
        crop: the square.
        side: of the crop, in pixels.
    """
    placed = points * (crop.side / side)
    x, y = (placed[:, :2] - crop.side / 2).T
    cos, sin = math.cos(crop.turn), math.sin(crop.turn)
    placed[:, 0] = x * cos - y * sin + crop.centre[0]
    placed[:, 1] = x * sin + y * cos + crop.centre[1]
    return placed
