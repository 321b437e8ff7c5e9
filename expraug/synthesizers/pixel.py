"""Pixel-based Facial Expression Synthesis (Akram & Khan, ICPR 2020, arXiv:2010.14397).

Our implementation of the method: for each expression every output pixel is an affine function of
the one input pixel at its place. What the paper leaves open, or we chose otherwise:

* the map is one of luminance, and its change is added to all three channels, so a grey face stays
  grey and lips keep their colour;
* the ridge term shrinks the *change* to zero, not the map: an uncertain pixel keeps its source
  value instead of darkening;
* the sums behind each pixel's fit are pooled over a small Gaussian neighbourhood;
* intensity interpolates between the source and the mapped face, which the paper does not do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.networks.class_index import class_index
from expraug.synthesizer import Synthesizer, register_synthesizer


@register_synthesizer("pixel")
class PixelSynthesizer(Synthesizer):
    """One affine map a pixel and expression: `face + intensity * (weight * luminance + bias)`.

    Args:
        sources: for each target expression that it can make, the source expressions that its map
            was fitted on.
        image_size: side of the aligned faces, in pixels.
    """

    weight: Tensor
    bias: Tensor
    row: Tensor

    def __init__(self, sources: Mapping[str, Sequence[str]], image_size: int = 128) -> None:
        super().__init__(
            sources={target: list(names) for target, names in sources.items()},
            image_size=image_size,
        )
        self.image_size = image_size
        self.sources = {
            Expression.parse(target): frozenset(map(Expression.parse, names))
            for target, names in sources.items()
        }
        self.expressions = tuple(self.sources)
        shape = (len(self.expressions), 1, image_size, image_size)
        self.register_buffer("weight", torch.zeros(shape))
        self.register_buffer("bias", torch.zeros(shape))
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def supports(self, source: Expression | None, target: Expression) -> bool:
        return source in self.sources.get(target, ())

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        self.check_targets(target)
        row = self.row[target]
        amount = intensity.to(faces.dtype).view(-1, 1, 1, 1)
        change = torch.addcmul(amount * self.bias[row], luminance(faces), amount * self.weight[row])
        return (faces + change).clamp_(0, 1)


class PixelFit:
    """Accumulates pairs of aligned faces and solves for the maps of one expression.

    Memory does not grow with the number of pairs: five sums a pixel are kept.

    Args:
        image_size: side of the aligned faces, in pixels.
    """

    def __init__(self, image_size: int) -> None:
        # n, x, x*x, change, x*change; float64 because sums over many pairs cancel in `solve`
        self.sums = torch.zeros(5, image_size, image_size, dtype=torch.float64)

    def add(self, source: Tensor, target: Tensor) -> None:
        """Add pairs: source and target faces, each (B, 3, S, S) float in [0, 1]."""
        x = luminance(source.double()).squeeze(1)
        change = luminance(target.double()).squeeze(1) - x
        terms = (torch.ones_like(x), x, x * x, change, x * change)
        self.sums += torch.stack([t.sum(dim=0) for t in terms])

    def solve(self, ridge: float = 0.4, pooling: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of the change, each (S, S) float.

        Args:
            ridge: the λ added to both diagonal entries, in units of squared pixel values in [0, 1]
                summed over pairs.
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
