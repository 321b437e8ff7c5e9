"""A generator that draws faces from latents, and what any other must offer to take its place.

Style-based (Karras et al. 2019) and grown progressively (Karras et al. 2018): each layer's features
are normalised and then scaled and shifted by the layer's own latent. What we chose otherwise:
groups of channels are normalised instead of single ones; each resolution adds its detail to the
enlarged image of the one below (Karras et al. 2020); latents also lay maps over the small features,
which makes faces easier to invert (Kim et al. 2021); there is no noise, so that a latent is one
face; and what maps random draws to latents is a normal distribution fitted to the latents of real
faces.

A `painted` generator begins with an active appearance model (`expraug/latent/pictures.py`): latents
add up pictures as well, and one more latent moves all that is drawn into the shape of the face. The
convolutions learn what sums of pictures cannot draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.faces.warp import enlarge
from expraug.latent.pictures import Pictures

SMALLEST = 4
"""Side of the first features, in pixels."""
_MAPPED = 16  # largest side of features that latents lay maps over
_MAPS = 8


class FaceGenerator(Protocol):
    """What the latent synthesizers need of a generator, as NVIDIA's StyleGAN code has it."""

    layers: int
    """Number of layers that take a latent, L."""
    width: int
    """Length of a latent, W."""
    image_size: int
    """Side of its faces, S, in pixels. They must be aligned as `expraug.faces.align` does."""

    def mapping(self, z: Tensor) -> Tensor:
        """Return (B, L, W) latents for (B, Z) draws of the standard normal distribution."""
        ...

    def synthesis(self, latents: Tensor) -> Tensor:
        """Return (B, 1, S, S) grey faces, about in [0, 1], of (B, L, W) latents; differentiable."""
        ...


class StyleGenerator(nn.Module):
    """A `FaceGenerator` of our own.

    Args:
        image_size: side of its faces, in pixels: 4 times a power of 2.
        channels: of its features at 4, 8, … `image_size` pixels, multiples of 8.
        width: length of a latent, and of a random draw.
        painted: begin with pictures: blank ones until they are fitted.

    Raises:
        ValueError: channels do not fit the size.
    """

    mean: Tensor
    """(L, W), of latents of faces."""
    factor: Tensor

    def __init__(
        self,
        image_size: int = 64,
        channels: Sequence[int] = (192, 160, 96, 48, 24),
        width: int = 128,
        painted: bool = False,
    ) -> None:
        super().__init__()
        sides = [SMALLEST << i for i in range(len(channels))]
        if not sides or sides[-1] != image_size or any(c % 8 for c in channels):
            raise ValueError(
                f"{len(sides)} channel counts, all multiples of 8, end at {sides[-1:]} pixels, "
                f"not {image_size}: got {list(channels)}"
            )
        self.image_size, self.width, self.sides = image_size, width, sides
        self.channels = tuple(channels)
        self.layers = 2 * len(sides) - 1 + painted
        self.painted = painted
        self.pictures: Pictures | None = None
        if painted:
            layers = [[0], *([2 * n - 1, 2 * n] for n in range(1, len(sides)))]
            self.pictures = Pictures(sides, layers, width)
        self.first = nn.Parameter(torch.randn(1, channels[0], SMALLEST, SMALLEST))
        styled = [_Styled(channels[0], channels[0], width, SMALLEST)]
        for side, (coarse, fine) in zip(sides[1:], pairwise(channels), strict=True):
            styled += [_Styled(coarse, fine, width, side), _Styled(fine, fine, width, side)]
        self.styled = nn.ModuleList(styled)
        grey = [nn.Conv2d(c, 1, 1) for c in channels]
        self.grey = nn.ModuleList(grey)
        for last in grey:
            nn.init.normal_(last.weight, std=0.1 * last.in_channels**-0.5)  # near mid-grey at first
        self.register_buffer("mean", torch.zeros(self.layers, width))
        self.register_buffer("factor", torch.zeros(width, self.layers * width))

    def mapping(self, z: Tensor) -> Tensor:
        """Return (B, L, W) latents for (B, W) standard normal draws, as `fit_mapping` fitted."""
        return self.mean + (z @ self.factor).view(-1, *self.mean.shape)

    @torch.no_grad()
    def fit_mapping(self, latents: Tensor) -> None:
        """Draw latents henceforth from the normal distribution of these, (N, L, W), along its W
        widest directions."""
        flat = latents.flatten(1)
        rank = min(self.width, len(flat) - 1)
        _, values, axes = torch.pca_lowrank(flat.float(), rank, niter=4)
        self.mean.copy_(latents.mean(0))
        self.factor.zero_()
        self.factor[:rank] = (values / (len(flat) - 1) ** 0.5)[:, None] * axes.T

    def synthesis(self, latents: Tensor, size: int | None = None, fade: float = 1.0) -> Tensor:
        """Return the faces of latents.

        Args:
            latents: (B, L, W) float.
            size: side of the faces, in pixels, while it grows; None for `image_size`.
            fade: in [0, 1], how much of the last resolution's detail is there.

        Returns:
            (B, 1, size, size) float, about in [0, 1].
        """
        image = self.still(latents, size, fade)
        if self.pictures is not None:
            image = self.pictures.move(image, latents[:, -1])
        return 0.5 + 0.5 * image

    def still(self, latents: Tensor, size: int | None = None, fade: float = 1.0) -> Tensor:
        """Return what is drawn before it moves into shape, (B, 1, size, size) float, about in
        [-1, 1]; arguments as `synthesis` has them."""
        x = self.first.expand(len(latents), -1, -1, -1)
        x = self.styled[0](x, latents[:, 0])
        image = self._detail(x, latents, 0)
        last = size or self.image_size
        for number, side in enumerate(self.sides[1:], 1):
            if side > last:
                break
            x = self.styled[2 * number - 1](enlarge(x), latents[:, 2 * number - 1])
            x = self.styled[2 * number](x, latents[:, 2 * number])
            detail = self._detail(x, latents, number)
            image = enlarge(image) + (fade if side == last else 1.0) * detail
        return image

    def _detail(self, x: Tensor, latents: Tensor, number: int) -> Tensor:
        detail: Tensor = self.grey[number](x).to(
            latents.dtype
        )  # autocast is for the features alone
        return detail if self.pictures is None else detail + self.pictures.paint(latents, number)


class LatentEncoder(nn.Module):
    """The fast half of inversion: (B, 1, S, S) grey faces in [0, 1] to (B, L, W) latents.

    Args:
        image_size: side of the faces, a multiple of 16.
        layers, width: of the latents.
        channels: at a half, a quarter, an eighth… of the size, down to four pixels.
    """

    def __init__(
        self,
        image_size: int,
        layers: int,
        width: int,
        channels: Sequence[int] = (32, 64, 128, 192),
    ) -> None:
        super().__init__()
        self.layers, self.width, self.channels = layers, width, tuple(channels)
        blocks: list[nn.Module] = [nn.Conv2d(4, channels[0], 3, padding=1), nn.LeakyReLU(0.2)]
        for fine, coarse in pairwise(channels):
            blocks += [
                nn.Conv2d(fine, coarse, 4, 2, 1, bias=False),
                nn.GroupNorm(8, coarse),
                nn.LeakyReLU(0.2),
                nn.Conv2d(coarse, coarse, 3, padding=1, bias=False),
                nn.GroupNorm(8, coarse),
                nn.LeakyReLU(0.2),
            ]
        self.blocks = nn.Sequential(*blocks)
        side = image_size >> len(channels)
        self.last = nn.Linear(channels[-1] * side * side, layers * width)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.blocks(F.pixel_unshuffle(2 * faces - 1, 2)).flatten(1)
        latents: Tensor = self.last(x).view(-1, self.layers, self.width)
        return latents.to(faces.dtype)


class _Styled(nn.Module):
    """A convolution whose normalised output a latent scales and shifts; on small features, where
    what goes where is decided, by maps of its own besides."""

    def __init__(self, inputs: int, outputs: int, width: int, side: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outputs, affine=False)
        self.style = nn.Linear(width, 2 * outputs)
        nn.init.normal_(self.style.weight, std=width**-0.5)
        self.maps = nn.Linear(width, _MAPS * side * side) if side <= _MAPPED else None
        self.spread = nn.Conv2d(_MAPS, outputs, 1, bias=False) if side <= _MAPPED else None

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        scale, shift = self.style(latent)[:, :, None, None].chunk(2, 1)
        x = torch.addcmul(shift, x, 1 + scale)
        if self.maps is not None and self.spread is not None:
            x = x + self.spread(self.maps(latent).view(-1, _MAPS, *x.shape[2:]))
        return F.leaky_relu(x, 0.2)


def encode(
    generator: FaceGenerator,
    encoder: nn.Module | None,
    faces: Tensor,
    shapes: Tensor | None = None,
) -> Tensor:
    """Return (B, L, W) latents of (B, 1, S, S) faces.

    They are what the encoder finds. Of a painted generator that is the shape alone, (B, 1, W), and
    the rest is what the pictures then read off the face. Where (B, W) shapes are given, since the
    landmarks are known, nothing is left to an encoder.

    Raises:
        ValueError: neither an encoder nor shapes.
    """
    if shapes is not None:
        found = shapes[:, None]
    elif encoder is not None:
        found = encoder(faces)
    else:
        raise ValueError("without an encoder, latents of faces need their shapes")
    pictures = getattr(generator, "pictures", None)
    if pictures is None:
        return found
    return torch.cat([pictures.read(faces, found[:, 0])[:, :-1], found], 1)
