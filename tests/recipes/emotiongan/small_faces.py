"""What the tests of `emotiongan`'s recipes share: sizes, and a stand-in for an encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from expraug import Expression

SIZE = 32
SHOWN = [Expression.NEUTRAL, Expression.HAPPY, Expression.SAD]
CONFIGURATION = {
    "image_size": SIZE,
    "channels": [16, 16, 8, 8],
    "width": 12,
    "encoder_channels": [8, 8, 8],
}


class CoarsePicture(nn.Module):
    """A stand-in for an identity encoder whose weights need no download."""

    name, threshold = "coarse-picture", 0.5

    def forward(self, faces: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(faces, 8).flatten(1)
        return F.normalize(coarse - coarse.mean(dim=1, keepdim=True))
