"""The closed forms behind `pixel`: an affine map per pixel, and displacements linear in the shape.

Both keep sums over pairs only, so that memory does not grow with their number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur


class PixelFit:
    """Accumulates pairs of maps and solves for the affine map of each pixel.

    Args:
        side: of the maps, in pixels.
    """

    def __init__(self, side: int) -> None:
        # n, x, x*x, change, x*change; float64 because sums over many pairs cancel in `solve`
        self.sums = torch.zeros(5, side, side, dtype=torch.float64)

    def add(self, source: Tensor, change: Tensor, weight: Tensor) -> None:
        """Add pairs.

        Args:
            source, change: (B, S, S) float, what a map sees of them and what it is to return.
            weight: (B,) float, how much each counts.
        """
        x, y, w = source.double(), change.double(), weight.double()
        terms = (torch.ones_like(x), x, x * x, y, x * y)
        self.sums += torch.stack([torch.einsum("b,bij->ij", w, t) for t in terms])

    def solve(self, ridge: float, pooling: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of the change, each (S, S) float.

        Args:
            ridge: the λ added to both diagonal entries, in units of squared values summed over
                pairs.
            pooling: standard deviation, in pixels, of the Gaussian over which neighbouring pixels
                share their sums; 0 shares nothing.
        """
        sums = self.sums
        if pooling > 0:
            width = 2 * int(3 * pooling + 0.5) + 1
            sums = gaussian_blur(sums, [width, width], [pooling, pooling])
        n, x, xx, c, xc = sums
        determinant = (xx + ridge) * (n + ridge) - x * x
        weight = ((n + ridge) * xc - x * c) / determinant
        bias = ((xx + ridge) * c - x * xc) / determinant
        return weight.float(), bias.float()
