"""U-Net conditional GAN (Wang et al., ACM TOMM 15(3s), 2019, and ICMR 2018).

Our implementation of the method: a U-Net takes the face and the target category, one net for all
expressions. How it is trained, with other-identity pairs and a triplet loss, stands in
`recipes/unet_cgan/trainer.py`. What the papers leave open, or we chose otherwise:

* the net does not draw a face, but says what the expression does to it, as `ExpressionMaps` have
  it: where parts move, what gets lighter, how the lips part. So photographs keep their colour and
  their sharpness at any resolution, and it costs least to leave a face as it is;
* a code beside the category says which of the many smiles: without it a net that learns from many
  makes their mean. Codes are those of expressions in training, a few per category; `variant` counts
  through them;
* category and code scale and shift the normalised features of the decoder;
* the decoder enlarges bilinearly and then convolves: transposed convolutions leave checkerboards;
* intensity scales the maps, so that half of it is half the movement; the papers know none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.faces.synthesized import SynthesizedFaces
from expraug.faces.warp import enlarge, resized
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.synthesizer import Synthesizer, register_synthesizer
from expraug.synthesizers.expression_maps import (
    ExpressionMaps,
    beyond_the_frame,
    painted_fingerprint,
)

_FARTHEST = 0.25
"""That a place moves, as a fraction of the frame's side."""
_LIGHTEST = 0.5
"""Change of log luminance; real furrows and folds stay within it."""
_POINTS = 11  # of the inner edge of a lip
_PLACES = 2 * _POINTS * 2  # numbers that say where both lips are
_LIPS = 0.1  # that the lips of a face are from the usual place, at most, and half of their movement
_SMALL = 0.1
_COARSE = 16  # side of what is the same in all faces


@register_synthesizer("unet_cgan")
class UNetCGANSynthesizer(Synthesizer):
    """What a U-Net says that an expression does to a face, for each target category.

    Args:
        expressions: that it can be asked for, in the order of its categories.
        image_size: side of the aligned faces that the net sees, in pixels; a multiple of 16.
        width: channels at half the resolution, a multiple of 8; they double with each of two
            further halvings, and are 7 times as many at a sixteenth.
        variants: codes per category.
        code: numbers of a code.

    Raises:
        ValueError: another size or width.
    """

    version = "3"
    size_agnostic = True
    row: Tensor
    codes: Tensor
    strength: Tensor
    """(E, 2), how far shape and light of each category go at intensity 1."""

    def __init__(
        self,
        expressions: Sequence[str],
        image_size: int = 128,
        width: int = 32,
        variants: int = 1,
        code: int = 12,
    ) -> None:
        super().__init__(
            expressions=list(expressions),
            image_size=image_size,
            width=width,
            variants=variants,
            code=code,
        )
        if image_size % 16 or width % 8:
            raise ValueError(
                f"image_size must be a multiple of 16 and width of 8, not {image_size} and {width}"
            )
        self.expressions = tuple(map(Expression.parse, expressions))
        self.image_size, self.variants = image_size, variants
        self.generator = UNet(len(self.expressions), image_size, width, code)
        self.register_buffer("row", class_index(self.expressions), persistent=False)
        self.register_buffer("codes", torch.zeros(len(self.expressions), variants, code))
        self.register_buffer("strength", torch.ones(len(self.expressions), 2))

    def forward(
        self, faces: Tensor, target: Tensor, intensity: Tensor, *, variant: Tensor | None = None
    ) -> Tensor:
        return self.synthesize(faces, target, intensity, variant=variant).render(faces)

    def synthesize(
        self, faces: Tensor, target: Tensor, intensity: Tensor, *, variant: Tensor | None = None
    ) -> SynthesizedFaces:
        self.check_targets(target)
        if not len(faces):
            return SynthesizedFaces(faces)
        row = self.row[target]
        code = self.codes[row, torch.zeros_like(row) if variant is None else variant]
        grey = resized(luminance(faces), self.image_size)
        parts = [self.generator(*part) for part in independently(grey, row, code.to(grey))]
        found = ExpressionMaps.joined(parts)
        maps = replace(found, flow=beyond_the_frame(found.flow))
        return maps.scaled(intensity[:, None] * self.strength.to(intensity)[row]).applied(faces)

    @property
    def fingerprint(self) -> str:
        """As every synthesizer's; the mouth painter's weights are in it."""
        return painted_fingerprint(super().fingerprint)


class UNet(nn.Module):
    """The generator.

    Args:
        categories: number of target expressions.
        image_size, width, code: as `UNetCGANSynthesizer` takes them.
    """

    usual_lips: Tensor

    def __init__(
        self, categories: int, image_size: int = 128, width: int = 32, code: int = 12
    ) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 7 * width]
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
        told = categories, code
        self.bottom = _Conditioned(widths[-1], widths[-1], *told)
        self.reduce = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.up = nn.ModuleList(_Conditioned(2 * fine, fine, *told) for fine, _ in steps)
        self.moving = nn.Conv2d(width, 3, 3, padding=1, bias=False)
        self.mouth = nn.Conv2d(widths[2], 6, 1)
        outputs = 2 * _PLACES + ROWS * COLUMNS
        self.places = nn.Linear(6 * (image_size // 8) ** 2, outputs, bias=False)
        # what is much the same in all faces: most of what moves, and where
        self.usual = nn.Embedding(categories, 3 * _COARSE**2 + outputs)
        self.usual_by_code = nn.Linear(code, 3 * _COARSE**2 + outputs, bias=False)
        for layer in (self.moving, self.places, self.usual, self.usual_by_code):
            nn.init.zeros_(layer.weight)  # the first change is none
        self.register_buffer("usual_lips", _usual_lips(), persistent=False)

    def forward(self, grey: Tensor, category: Tensor, code: Tensor) -> ExpressionMaps:
        """Return what expressions do, with a flow over the canonical frame, not `FLOW_FRAME`.

        Args:
            grey: (B, 1, S, S) luminance in [0, 1].
            category: (B,) long.
            code: (B, C) float.

        Returns:
            Maps of side S / 2.
        """
        # full resolution would cost most of the time: four pixels become channels of one
        x = self.stem(F.pixel_unshuffle(2 * grey - 1, 2))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = x + self.bottom(x, category, code)
        found: list[Tensor] = []
        for skip, reduce, up in zip(
            reversed(skips), reversed(self.reduce), reversed(self.up), strict=True
        ):
            x = up(torch.cat([enlarge(reduce(x)), skip], 1), category, code)
            found.append(x)
        # so scaled, a step of training is a fraction of a pixel
        usual = (self.usual(category) + self.usual_by_code(code)).to(grey.dtype)
        coarse, about = usual.split([3 * _COARSE**2, usual.shape[1] - 3 * _COARSE**2], 1)
        coarse = resized(coarse.reshape(-1, 3, _COARSE, _COARSE), x.shape[-1])
        moving = (coarse + _SMALL * self.moving(x).to(grey.dtype)).tanh()
        near = F.leaky_relu(self.mouth(found[0]), 0.2).flatten(1)
        numbers = about + _SMALL * self.places(near).to(grey.dtype)
        lips, moved, interior = numbers.split([_PLACES, _PLACES, ROWS * COLUMNS], 1)
        lips = self.usual_lips + _LIPS * lips.tanh().view(-1, 2, _POINTS, 2)
        return ExpressionMaps(
            _FARTHEST * moving[:, :2],
            _LIGHTEST * moving[:, 2:],
            lips,
            lips + 2 * _LIPS * moved.tanh().view(-1, 2, _POINTS, 2),
            interior.view(-1, ROWS, COLUMNS).tanh(),
        )


class _Conditioned(nn.Module):
    """A convolution whose normalised output each category, and the code, scale and shift."""

    def __init__(self, inputs: int, outputs: int, categories: int, code: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outputs, affine=False)
        self.scale = nn.Embedding(categories, outputs)
        self.shift = nn.Embedding(categories, outputs)
        self.by_code = nn.Linear(code, 2 * outputs, bias=False)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, category: Tensor, code: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        own = torch.cat([self.scale(category), self.shift(category)], 1) + self.by_code(code)
        scale, shift = own[:, :, None, None].chunk(2, 1)
        return F.leaky_relu(torch.addcmul(shift, x, scale), 0.2)


def _usual_lips() -> Tensor:
    """Return about the mean of the inner edges of people's lips, (2, 11, 2)."""
    along = torch.linspace(0, 1, _POINTS)
    bow = 4 * along * (1 - along)
    x = 0.39 + 0.22 * along
    return torch.stack(
        [torch.stack([x, 0.714 - 0.01 * bow], 1), torch.stack([x, 0.714 + 0.022 * bow], 1)]
    )
