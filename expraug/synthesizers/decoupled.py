"""Feature decoupling (Bao et al. 2023): identity and expression as two parts of one code.

Our implementation of the method: a ResNet50 sees the face, its features become a code of identity
and a code of expression, a mapping network turns both into the codes of the generator's layers, and
a progressive generator draws the face. A feedback network, which finds both codes in the drawn
face, stands in `expraug/training/decoupled.py` with all that only training needs. What the paper
leaves open, or we chose otherwise:

* another expression is another expression code, learned for each category; intensity moves from the
  code that the face has towards it, and at 1 as far beyond it as
  `recipes/latent/calibrate_edit_strength.py` chose;
* what is shown is not what is drawn, but the *change* between the face drawn with its own code and
  with the other: so colour and detail stay. Where the generator has pictures, what they move, moves
  in the source itself, the rest is added, and the first face is drawn from what the generator's
  own inversion reads off the source instead of what its two codes remember of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, conv1x1

from expraug.expressions import Expression
from expraug.faces.composite import hide_background, luminance
from expraug.faces.warp import resized
from expraug.latent.generator import CodeEncoder, StyleGenerator, edit, encode
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.synthesizer import Synthesizer, register_synthesizer

_BLOCKS = (3, 4, 6, 3)  # of a ResNet50 (He et al. 2016)


@register_synthesizer("decoupled")
class DecoupledSynthesizer(Synthesizer):
    """Changes a face as the drawn one changes when another expression code takes its own's place.

    Args:
        expressions: that it can be asked for, in the order of its categories.
        image_size: side of the aligned faces, in pixels; 4 times a power of 2, from 32.
        channels, width, painted: of the generator, as `StyleGenerator` takes them.
        resnet_width: channels after the first layer of the ResNet50; 64 in its paper.
        identity, expression: lengths of the two codes.
        shape_channels: of the encoder of shapes that a painted generator has, as `CodeEncoder`
            takes them.
        plain: show the luminance of the drawn face itself, instead of adding its change to the
            source: intensity 0 is then the inversion. For evaluation.

    Raises:
        ValueError: another size, or channels that do not fit it.
    """

    version = "2"
    size_agnostic = True
    float32: ClassVar[frozenset[str]] = frozenset({"lengths"})

    lengths: Tensor
    """(E,), how far intensity 1 goes: 1 is the category's own code."""
    row: Tensor

    def __init__(
        self,
        expressions: Sequence[str],
        image_size: int = 64,
        channels: Sequence[int] = (192, 160, 96, 48, 24),
        width: int = 128,
        resnet_width: int = 24,
        identity: int = 256,
        expression: int = 16,
        plain: bool = False,
        painted: bool = False,
        shape_channels: Sequence[int] = (32, 64, 128, 192),
    ) -> None:
        super().__init__(
            expressions=list(expressions),
            image_size=image_size,
            channels=list(channels),
            width=width,
            resnet_width=resnet_width,
            identity=identity,
            expression=expression,
            plain=plain,
            painted=painted,
            shape_channels=list(shape_channels),
        )
        if image_size < 32:
            raise ValueError(f"image_size must be 32 or more, for a ResNet50, not {image_size}")
        self.expressions = tuple(map(Expression.parse, expressions))
        self.image_size, self.plain = image_size, plain
        self.net = DecoupledNet(
            len(self.expressions),
            image_size,
            channels,
            width,
            resnet_width,
            identity,
            expression,
            painted,
            shape_channels,
        )
        self.register_buffer("lengths", torch.ones(len(self.expressions)))
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        self.check_targets(target)
        if not len(faces):
            return faces
        row = self.row[target]
        strength = (intensity.to(faces.dtype) * self.lengths[row]).view(-1, 1)
        parts = independently(faces, row, strength)
        return torch.cat([self._make(*part) for part in parts]).clamp_(0, 1)

    def _make(self, faces: Tensor, row: Tensor, strength: Tensor) -> Tensor:
        grey = luminance(faces)
        small = resized(grey, self.image_size)
        who, shown = self.net.encode(small)
        wanted = torch.lerp(shown, self.net.wanted(row), strength)
        own, other = self.net.codes(torch.cat([who, who]), torch.cat([shown, wanted])).chunk(2)
        if self.plain:
            return faces + resized(self.draw(other), faces.shape[-1]) - hide_background(grey)
        return self.change(faces, own, other)

    def change(self, faces: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Change (B, C, S, S) faces in [0, 1] as codes of theirs change, both (B, L, W)."""
        grey = luminance(faces) if faces.shape[1] == 3 else faces
        read = self.net.read(resized(grey, self.image_size), own)
        return edit(self.net.generator, faces, read, read + (other - own))

    def invert(self, grey: Tensor) -> Tensor:
        """Return the (B, L, W) codes of the generator's layers for (B, 1, S, S) faces in [0, 1]."""
        return self.net.codes(*self.net.encode(grey))

    def swap(self, who: Tensor, shown: Tensor) -> Tensor:
        """Return the codes of some faces' identity code and the expression code of others.

        Args:
            who, shown: (B, 1, S, S) float in [0, 1], aligned.

        Returns:
            (B, L, W) float.
        """
        identity, _ = self.net.encode(who)
        _, expression = self.net.encode(shown)
        return self.net.codes(identity, expression)

    def draw(self, codes: Tensor) -> Tensor:
        """Return the (B, 1, S, S) faces, about in [0, 1], that the generator draws of codes."""
        return self.net.generator.synthesis(codes)


class DecoupledNet(nn.Module):
    """The nets; arguments as `DecoupledSynthesizer` takes them.

    `shapes` is the encoder that a painted generator was trained with; it stays as it is.
    """

    def __init__(
        self,
        categories: int,
        image_size: int,
        channels: Sequence[int],
        width: int,
        resnet_width: int,
        identity: int,
        expression: int,
        painted: bool = False,
        shape_channels: Sequence[int] = (32, 64, 128, 192),
    ) -> None:
        super().__init__()
        self.lengths = [identity, expression]
        self.resnet = resnet50(resnet_width)
        side = image_size // 32
        self.parts = nn.Linear(32 * resnet_width * side * side, identity + expression)
        self.norm = nn.LayerNorm(identity, elementwise_affine=False)
        self.generator = StyleGenerator(image_size, channels, width, painted)
        del self.generator.factor  # large, and for random draws alone
        self.shapes: CodeEncoder | None = None
        if painted:
            self.shapes = CodeEncoder(image_size, 1, width, shape_channels).requires_grad_(False)
        hidden = 3 * width
        self.mapping = nn.Sequential(
            nn.Linear(identity + expression, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, self.generator.layers * width),
        )
        self.categories = nn.Parameter(0.5 * torch.randn(categories, expression))

    def encode(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes of faces, (B, 1, S, S) in [0, 1].

        Returns:
            (B, identity), of mean 0 and variance 1, and (B, expression), in [-1, 1].
        """
        features = self.resnet(2 * hide_background(grey) - 1).flatten(1)
        who, shown = self.parts(features).to(grey.dtype).split(self.lengths, 1)
        return self.norm(who), shown.tanh()

    def wanted(self, row: Tensor) -> Tensor:
        """Return the (B, expression) codes of (B,) categories."""
        return self.categories[row].tanh()

    def read(self, grey: Tensor, codes: Tensor) -> Tensor:
        """Return (B, L, W) codes like those given, but of (B, 1, S, S) faces as they are.

        Those of a painted generator are read off the faces by its encoder of shapes and its
        pictures; others cannot be, so that the codes stay.
        """
        if self.shapes is None:
            return codes
        return encode(self.generator, self.shapes, hide_background(grey))

    def codes(self, who: Tensor, shown: Tensor) -> Tensor:
        """Return (B, L, W), the generator's codes for a code of identity and one of expression."""
        found = self.mapping(torch.cat([who, shown], 1)).to(who.dtype)
        return found.view(len(who), self.generator.layers, self.generator.width)


def resnet50(width: int) -> nn.Sequential:
    """Return a ResNet50 of any width, without its head, for grey faces: (B, 1, S, S) to
    (B, 32 * width, S / 32, S / 32)."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = width
    for number, blocks in enumerate(_BLOCKS):
        planes, stride = width << number, 2 if number else 1
        outputs = Bottleneck.expansion * planes
        skip = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        layers.append(Bottleneck(inputs, planes, stride, skip))
        layers += [Bottleneck(outputs, planes) for _ in range(blocks - 1)]
        inputs = outputs
    return nn.Sequential(*layers)
