"""Feature decoupling (Bao et al. 2023): identity and expression as two parts of one latent.

Our implementation of the method: a ResNet50 sees the face, its features become a latent of identity
and a latent of expression, a mapping network turns both into the latents of the generator's layers,
and a progressive generator draws the face. A feedback network, which finds both latents in the
drawn face, stands in `recipes/decoupled/trainer.py` with all that only training needs. What the
paper leaves open, or we chose otherwise:

* another expression is another expression latent, learned for each category; intensity moves from
  the latent that the face has towards it, and at 1 as far beyond it as
  `recipes/strength/calibrate.py` chose;
* what is shown is not what is drawn, but the *change* between the face drawn with its own latent
  and with the other: so colour and detail stay. Where the generator has pictures, what they move,
  moves in the source itself, the rest becomes light and shade on its skin, the mouth painter fills
  a mouth that opens, and the first face is drawn from what landmarks and pictures read off the
  source instead of what its two latents remember of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.composite import hide_background, luminance
from expraug.faces.synthesized import SynthesizedFaces, joined
from expraug.faces.warp import resized
from expraug.latent.generator import StyleGenerator, encode
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.synthesizer import Synthesizer, register_synthesizer
from expraug.synthesizers.expression_maps import painted_fingerprint
from expraug.synthesizers.latent_maps import added, changed, pictures_of, see, stretched

_BLOCKS = (3, 4, 6, 3)  # of a ResNet50 (He et al. 2016)


@register_synthesizer("decoupled")
class DecoupledSynthesizer(Synthesizer):
    """Changes a face as the drawn one changes when another expression latent takes its own's place.

    Args:
        expressions: that it can be asked for, in the order of its categories.
        image_size: side of the aligned faces, in pixels; 4 times a power of 2, from 32.
        channels, width, painted: of the generator, as `StyleGenerator` takes them.
        resnet_width: channels after the first layer of the ResNet50; 64 in its paper.
        identity, expression: sizes of the two latents.
        plain: show the luminance of the drawn face itself, instead of adding its change to the
            source: intensity 0 is then the inversion. For evaluation.

    Raises:
        ValueError: another size, or channels that do not fit it.
    """

    version = "5"
    needs_landmarks = True
    size_agnostic = True
    float32: ClassVar[frozenset[str]] = frozenset({"strength", "interiors"})

    strength: Tensor
    """(E, 2), how far shape and light go at intensity 1: 1 is the category's own latent."""
    interiors: Tensor
    """(E, 6, 12), how light the inside of a mouth is that opens, as the mouth painter takes it."""
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
        )
        self.register_buffer("strength", torch.ones(len(self.expressions), 2))
        self.register_buffer("interiors", torch.zeros(len(self.expressions), ROWS, COLUMNS))
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor, **inputs: Tensor) -> Tensor:
        """As `Synthesizer.forward` has it, with the inputs of `synthesize`."""
        return self.synthesize(faces, target, intensity, **inputs).render(faces)

    def synthesize(
        self,
        faces: Tensor,
        target: Tensor,
        intensity: Tensor,
        *,
        landmarks: Tensor | None = None,
        **_: Tensor,
    ) -> SynthesizedFaces:
        """Return how the faces change.

        Args:
            faces, target, intensity: as `Synthesizer.forward` takes them; faces may have any side.
            landmarks: as `Synthesizer.needs_landmarks` describes them; None finds them in the
                faces, and leaves those where none are found unchanged.

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
        """
        self.check_targets(target)
        seen = see(self.net.generator, faces, landmarks)
        row = self.row[target]
        strength = (intensity.to(faces.dtype) * seen.there)[:, None] * self.strength[row]
        parts = independently(faces, row, strength, seen.landmarks, seen.shapes)
        made = [self._make(*part) for part in parts if len(part[0])]
        return joined(made) if made else SynthesizedFaces(faces)

    def _make(
        self, faces: Tensor, row: Tensor, strength: Tensor, landmarks: Tensor, shapes: Tensor
    ) -> SynthesizedFaces:
        grey = luminance(faces)
        who, shown = self.net.encode(resized(grey, self.image_size))
        wanted = self.net.wanted(row).to(shown)
        own, other = self.net.latents(torch.cat([who, who]), torch.cat([shown, wanted])).chunk(2)
        other = own + stretched(self.net.generator, other - own, strength)
        if self.plain:
            drawn = resized(self.draw(other), faces.shape[-1]) - hide_background(grey)
            return added(faces, drawn)
        return self._changed(faces, own, other, landmarks, shapes, self.interiors[row])

    def change(self, faces: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Change (B, 3, S, S) faces in [0, 1] as latents of theirs change, both (B, L, W).

        The inside of a mouth that opens is as light as in the mean of all expressions.
        """
        seen = see(self.net.generator, faces, None)
        interior = self.interiors.mean(0, keepdim=True).expand(len(faces), -1, -1)
        made = self._changed(faces, own, other, seen.landmarks, seen.shapes, interior)
        return made.render(faces)

    def _changed(
        self,
        faces: Tensor,
        own: Tensor,
        other: Tensor,
        landmarks: Tensor,
        shapes: Tensor,
        interior: Tensor,
    ) -> SynthesizedFaces:
        generator, read = self.net.generator, own
        if generator.painted:
            grey = hide_background(resized(luminance(faces), self.image_size))
            read = encode(generator, None, grey, shapes)
        return changed(generator, faces, read, read + (other - own), landmarks, interior)

    @property
    def fingerprint(self) -> str:
        """As every synthesizer's; a painted generator's has the mouth painter's weights in it."""
        own = super().fingerprint
        return own if pictures_of(self.net.generator) is None else painted_fingerprint(own)

    def invert(self, grey: Tensor) -> Tensor:
        """Return the (B, L, W) latents of the generator's layers for (B, 1, S, S) faces."""
        return self.net.latents(*self.net.encode(grey))

    def swap(self, who: Tensor, shown: Tensor) -> Tensor:
        """Return the latents of some faces' identity latent and the expression latent of others.

        Args:
            who, shown: (B, 1, S, S) float in [0, 1], aligned.

        Returns:
            (B, L, W) float.
        """
        identity, _ = self.net.encode(who)
        _, expression = self.net.encode(shown)
        return self.net.latents(identity, expression)

    def draw(self, latents: Tensor) -> Tensor:
        """Return the (B, 1, S, S) faces, about in [0, 1], that the generator draws of latents."""
        return self.net.generator.synthesis(latents)


class DecoupledNet(nn.Module):
    """The nets; arguments as `DecoupledSynthesizer` takes them."""

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
    ) -> None:
        super().__init__()
        self.sizes = [identity, expression]
        self.resnet = resnet50(resnet_width)
        side = image_size // 32
        self.parts = nn.Linear(32 * resnet_width * side * side, identity + expression)
        self.norm = nn.LayerNorm(identity, elementwise_affine=False)
        self.generator = StyleGenerator(image_size, channels, width, painted)
        del self.generator.factor  # large, and for random draws alone
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
        """Return the latents of faces, (B, 1, S, S) in [0, 1].

        Returns:
            (B, identity), of mean 0 and variance 1, and (B, expression), in [-1, 1].
        """
        features = self.resnet(2 * hide_background(grey) - 1).flatten(1)
        who, shown = self.parts(features).to(grey.dtype).split(self.sizes, 1)
        return self.norm(who), shown.tanh()

    def wanted(self, row: Tensor) -> Tensor:
        """Return the (B, expression) latents of (B,) categories."""
        return self.categories[row].tanh()

    def latents(self, who: Tensor, shown: Tensor) -> Tensor:
        """Return the generator's (B, L, W) latents for one of identity and one of expression."""
        found: Tensor = self.mapping(torch.cat([who, shown], 1)).to(who.dtype)
        return found.view(len(who), self.generator.layers, self.generator.width)


def resnet50(width: int) -> nn.Sequential:
    """Return a ResNet50 of any width, without its head, for grey faces: (B, 1, S, S) to
    (B, 32 * width, S / 32, S / 32)."""
    from torchvision.models.resnet import Bottleneck, conv1x1  # seconds to import

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
