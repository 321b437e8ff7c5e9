"""How far lips and lids are apart, before and after an expression."""

from __future__ import annotations

import torch
from torch import Tensor

_OPENING = (0.02, 0.06)  # by which a mouth opens until what is in it is new
_LID_GAP = 0.012  # an eye with less between its lids is shut
_LID_OPENING = 0.006  # by which it must open until it is seen that nothing is there to show
_TINY = 1e-6


def lip_gaps(landmarks: Tensor, lips: Tensor) -> Tensor:
    """Return how far the inner lips are apart from corner to corner, (B, 9), as a share of the
    width of the mouth.

    Args:
        landmarks: (B, 478, 2).
        lips: (2, 11) long, landmarks of the upper and of the lower lip, from corner to corner.
    """
    upper, lower = lips
    gaps = landmarks[:, lower[1:-1], 1] - landmarks[:, upper[1:-1], 1]
    return gaps.clamp(min=0) / _mouth_width(landmarks, lips)


def part_lips(
    moved: Tensor, landmarks: Tensor, gaps: Tensor, amount: Tensor, lips: Tensor
) -> Tensor:
    """Return landmarks whose inner lips are as far apart as the exemplar's: this needs no reading,
    and lips that are shut there stay shut.

    Args:
        moved, landmarks: (B, 478, 2), after and before.
        gaps: (B, 9) of the exemplars.
        amount: (B, 1) intensities.
        lips: as `lip_gaps` takes them.
    """
    upper, lower = lips[:, 1:-1]
    wanted = torch.lerp(lip_gaps(landmarks, lips), gaps, amount) * _mouth_width(moved, lips)
    wrong = (wanted - (moved[:, lower, 1] - moved[:, upper, 1])) / 2
    parted = moved.clone()
    parted[:, lower, 1] += wrong
    parted[:, upper, 1] -= wrong
    return parted


def painted_share(before: Tensor, after: Tensor, lips: Tensor) -> Tensor:
    """Return how much of the mouth's inside is painted, (B, 1) in [0, 1]: a mouth that hardly opens
    further keeps its own."""
    low, high = _OPENING
    wider = (lip_gaps(after, lips) - lip_gaps(before, lips)).mean(1, keepdim=True)
    return ((wider - low) / (high - low)).clamp(0, 1)


def shut_eyes_open(before: Tensor, after: Tensor, lids: Tensor) -> Tensor:
    """Return which faces have shut eyes that would open, (B,) bool: there is nothing to show.

    Args:
        before, after: (B, 478, 2) landmarks.
        lids: (2, 2) long, landmarks of the upper and of the lower lids.
    """
    upper, lower = lids
    gaps = [(points[:, lower, 1] - points[:, upper, 1]).mean(1) for points in (before, after)]
    return (gaps[0] < _LID_GAP) & (gaps[1] - gaps[0] > _LID_OPENING)


def _mouth_width(landmarks: Tensor, lips: Tensor) -> Tensor:
    left, right = landmarks[:, lips[0, 0]], landmarks[:, lips[0, -1]]
    return (right - left).square().sum(1, keepdim=True).sqrt().clamp(min=_TINY)
