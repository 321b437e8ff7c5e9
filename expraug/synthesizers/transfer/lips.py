"""How far lips and lids are apart, before and after an expression."""

from __future__ import annotations

import torch
from torch import Tensor

from expraug.faces.mouth import LOWER_LIP, UPPER_LIP, lip_gaps, lips_of, mouth_width

_JAW = 0.7  # how firmly the chin hangs on the lower lip
_LID_GAP = 0.012  # an eye with less between its lids is shut
_BLINKS, _BLINK = [9, 10], 0.5  # scores of both eyes, from which they are shut
_LID_OPENING = 0.006  # by which it must open until it is seen that nothing is there to show


def part_lips(
    moved: Tensor,
    landmarks: Tensor,
    gaps: Tensor,
    amount: Tensor,
    followers: Tensor,
) -> Tensor:
    """Return landmarks whose inner lips are as far apart as the exemplar's: this needs no reading,
    and lips that are shut there stay shut.

    Args:
        moved, landmarks: (B, 478, 2), after and before.
        gaps: (B, 9) of the exemplars.
        amount: (B, 1) intensities.
        followers: (2, 478, 9), by how much landmarks go down for each unit that a gap grows, with
            the upper and with the lower lip.
    """
    upper, lower = list(UPPER_LIP[1:-1]), list(LOWER_LIP[1:-1])
    wanted = torch.lerp(lip_gaps(lips_of(landmarks)), gaps, amount) * mouth_width(lips_of(moved))
    wrong = wanted - (moved[:, lower, 1] - moved[:, upper, 1])
    down = moved[..., 1] - landmarks[..., 1] + (wrong[:, None] * followers.sum(0)).sum(2)
    # the lower lip hangs on the jaw: what is below it drops with it, and is not squeezed
    jaw = followers[1] / followers[1].max()
    dropped = (down[:, lower][:, None] * jaw).sum(2)
    down = torch.lerp(down, dropped, _JAW * jaw.sum(1))
    return torch.stack([moved[..., 0], landmarks[..., 1] + down], 2)


def shut_eyes_open(before: Tensor, after: Tensor, lids: Tensor, scores: Tensor) -> Tensor:
    """Return which faces have shut eyes that would open, (B,) bool: there is nothing to show.

    Args:
        before, after: (B, 478, 2) landmarks.
        scores: (B, 52) blendshape scores before.
        lids: (2, 2) long, landmarks of the upper and of the lower lids.
    """
    upper, lower = lids
    gaps = [(points[:, lower, 1] - points[:, upper, 1]).mean(1) for points in (before, after)]
    shut = (gaps[0] < _LID_GAP) | (scores[:, _BLINKS].amin(1) > _BLINK)
    return shut & (gaps[1] - gaps[0] > _LID_OPENING)
