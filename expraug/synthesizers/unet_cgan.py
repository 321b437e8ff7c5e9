"""U-Net conditional GAN (Wang et al., ACM TOMM 15(3s), 2019, and ICMR 2018).

Our implementation of the method: a U-Net takes the face and the target category, one net for all
expressions. How it is trained, with other-identity pairs and a triplet loss, stands in
`expraug/training/unet_cgan.py`. What the papers leave open, or we chose otherwise:

* the net predicts the *change* of luminance, which is added to the face (the input-to-output skip
  of US-GAN), so colour and detail stay, and it costs least to leave a face as it is;
* the category scales and shifts the normalised features of the decoder;
* the decoder enlarges bilinearly and then convolves: transposed convolutions leave checkerboards;
* intensity scales the change, which the papers do not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.faces.warp import enlarge
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.synthesizer import Synthesizer, register_synthesizer


@register_synthesizer("unet_cgan")
class UNetCGANSynthesizer(Synthesizer):
    """A U-Net's change of luminance, for each target category: `face + intensity * change`.

    Args:
        expressions: that it can be asked for, in the order of its categories.
        image_size: side of the aligned faces, in pixels; a multiple of 16.
        width: channels at half the resolution, a multiple of 8; they double with each of three
            further halvings.

    Raises:
        ValueError: another size or width.
    """

    row: Tensor

    def __init__(self, expressions: Sequence[str], image_size: int = 128, width: int = 32) -> None:
        super().__init__(expressions=list(expressions), image_size=image_size, width=width)
        if image_size % 16 or width % 8:
            raise ValueError(
                f"image_size must be a multiple of 16 and width of 8, not {image_size} and {width}"
            )
        self.expressions = tuple(map(Expression.parse, expressions))
        self.image_size = image_size
        self.generator = UNet(len(self.expressions), width)
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        self.check_targets(target)
        if not len(faces):
            return faces
        parts = independently(luminance(faces), self.row[target])
        change = torch.cat([self.generator(*part) for part in parts])
        return (faces + intensity.to(faces.dtype).view(-1, 1, 1, 1) * change).clamp_(0, 1)


class UNet(nn.Module):
    """The generator: (B, 1, S, S) luminance in [0, 1] and (B,) category to the change of it.

    Args:
        categories: number of target expressions.
        width: as `UNetCGANSynthesizer` takes it.
    """

    def __init__(self, categories: int, width: int = 32) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        steps = list(pairwise(widths))
        self.stem = nn.Conv2d(4, width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(0.2),
                nn.Conv2d(fine, coarse, 4, 2, 1, bias=False),
                nn.GroupNorm(8, coarse),
            )
            for fine, coarse in steps
        )
        self.bottom = _Conditioned(widths[-1], widths[-1], categories)
        self.reduce = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.up = nn.ModuleList(_Conditioned(2 * fine, fine, categories) for fine, _ in steps)
        self.last = nn.Conv2d(width, 16, 1)
        change = nn.Conv2d(8, 1, 3, padding=1, bias=False)
        nn.init.zeros_(change.weight)  # the first change is none
        self.head = nn.Sequential(nn.Conv2d(17, 8, 3, padding=1), nn.LeakyReLU(0.2), change)

    def forward(self, grey: Tensor, category: Tensor) -> Tensor:
        # full resolution would cost most of the time: four pixels become channels of one
        x = self.stem(F.pixel_unshuffle(2 * grey - 1, 2))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = x + self.bottom(x, category)
        for skip, reduce, up in zip(
            reversed(skips), reversed(self.reduce), reversed(self.up), strict=True
        ):
            x = up(torch.cat([enlarge(reduce(x)), skip], 1), category)
        x = torch.cat([enlarge(self.last(x)), grey.to(x.dtype)], 1)
        return self.head(x).to(grey.dtype).tanh()


class _Conditioned(nn.Module):
    """A convolution whose normalised output each category scales and shifts in its own way."""

    def __init__(self, inputs: int, outputs: int, categories: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outputs, affine=False)
        self.scale = nn.Embedding(categories, outputs)
        self.shift = nn.Embedding(categories, outputs)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, category: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        scale, shift = (e(category)[:, :, None, None] for e in (self.scale, self.shift))
        return F.leaky_relu(torch.addcmul(shift, x, scale), 0.2)
