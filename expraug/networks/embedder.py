"""A small encoder of identity, for nets that want one inside themselves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.faces.composite import hide_background
from expraug.pretrained import find_weights, load_weights, save_weights

SIZE = 64
"""Side of the faces that it sees, in pixels."""
LENGTH = 128
"""Of its vectors."""
_KIND = "face_embedder"
_VERSION = "1"


class FaceEmbedder(nn.Module):
    """Aligned grey faces to unit vectors, the nearer the more alike the persons are.

    A residual net (He et al. 2016) of 1.2 million parameters that is taught by a large encoder; see
    `recipes/embedder/trainer.py`. It has no batch norm, so that a face's vector does not depend on
    what else is in the batch.

    Args:
        width: channels at half the resolution, a multiple of 8.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.config = {"width": width}
        wide = (width, 2 * width, 4 * width, 6 * width)
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2, bias=False),
            *(_Halving(fine, coarse) for fine, coarse in pairwise(wide)),
            nn.GroupNorm(8, wide[-1]),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.last = nn.Linear(wide[-1] * (SIZE // 16) ** 2, LENGTH)

    def forward(self, grey: Tensor) -> Tensor:
        """Return (B, 128) unit vectors of (B, 1, S, S) faces in [0, 1]; what lies outside the face
        mask tells nothing."""
        seen = hide_background(grey)
        if grey.shape[-1] != SIZE:
            seen = F.interpolate(
                seen, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True
            )
        found = self.last(self.body(2 * seen - 1))
        return F.normalize(found.to(torch.promote_types(found.dtype, torch.float32)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (floats as fp16) and `config.json` into a folder.

        Raises:
            InvalidWeightsError: a value that is not finite, or too large for fp16.
        """
        save_weights(self, folder, kind=_KIND, name=_KIND, version=_VERSION, config=self.config)


def load_face_embedder(folder: str | Path) -> FaceEmbedder:
    """Load what `FaceEmbedder.save_pretrained` wrote, ready for inference.

    Raises:
        MissingWeightsError: nothing there.
        InvalidWeightsError: what is there is damaged, or no face embedder.
    """
    return load_weights(find_weights(folder), _KIND, lambda _: FaceEmbedder)[0]


class _Halving(nn.Module):
    """A residual block that halves the resolution, normalised before it is convolved."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.first = nn.GroupNorm(8, fine)
        self.one = nn.Conv2d(fine, coarse, 3, 2, 1, bias=False)
        self.second = nn.GroupNorm(8, coarse)
        self.two = nn.Conv2d(coarse, coarse, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(fine, coarse, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        around: Tensor = self.skip(F.avg_pool2d(x, 2))
        change: Tensor = self.two(F.relu(self.second(self.one(F.relu(self.first(x))))))
        return around + change
