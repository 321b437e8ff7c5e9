"""A discriminator of faces, or of pairs of faces, that knows which category they should show."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class ProjectionDiscriminator(nn.Module):
    """Patches judged by a convolutional net (pix2pix, Isola et al. 2017), conditioned on a category
    by projection (Miyato & Koyama 2018), with spectral norm (Miyato et al. 2018).

    Args:
        channels: of the input: 1 for grey faces, 2 for pairs of them.
        categories: number of expressions.
        width: channels of the first layer.
        halvings: of the resolution, the first of which turns four pixels into channels of one.
    """

    def __init__(self, channels: int, categories: int, width: int = 32, halvings: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, outputs = 4 * channels, width
        for _ in range(halvings - 1):
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
            inputs, outputs = outputs, min(2 * outputs, 8 * width)
        self.body = nn.Sequential(*layers)
        self.real = spectral_norm(nn.Conv2d(inputs, 1, 3, padding=1))
        self.category = spectral_norm(nn.Embedding(categories, inputs))

    def forward(self, faces: Tensor, category: Tensor) -> Tensor:
        """Return (B, 1, h, w), positive where it sees a real face of the category.

        Args:
            faces: (B, channels, S, S) in [0, 1].
            category: (B,) long.
        """
        x = self.body(F.pixel_unshuffle(2 * faces - 1, 2))
        known = (x.mean((2, 3)) * self.category(category)).sum(1)
        return self.real(x) + known.view(-1, 1, 1, 1)
