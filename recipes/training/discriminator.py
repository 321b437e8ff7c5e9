"""Discriminators: of faces, pairs or clips that know the category asked for, and a grown one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from expraug.synthesizers.fevgan.net import along_time


class ProjectionDiscriminator(nn.Module):
    """Patches classified by a convolutional net (pix2pix, Isola et al. 2017), conditioned on a
    category by projection (Miyato & Koyama 2018), with spectral norm (Miyato et al. 2018).

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
        _without_biases(self)

    def forward(self, faces: Tensor, category: Tensor) -> Tensor:
        """Return (B, 1, h, w), positive where it sees a real face of the category.

        Args:
            faces: (B, channels, S, S) in [0, 1].
            category: (B,) long.
        """
        x = self.body(F.pixel_unshuffle(2 * faces - 1, 2))
        known: Tensor = (x.mean((2, 3)) * self.category(category)).sum(1)
        real: Tensor = self.real(x)
        return real + known.view(-1, 1, 1, 1)


class VideoDiscriminator(nn.Module):
    """Clips classified by convolutions in space and then in time (Tran et al. 2018), conditioned on
    a category by projection (Miyato & Koyama 2018), with spectral norm (Miyato et al. 2018).

    Args:
        categories: number of expressions.
        width: channels of the first layer.
        halvings: of resolution and number of frames; beside them, four pixels become channels of
            one first.
    """

    def __init__(self, categories: int, width: int = 32, halvings: int = 3) -> None:
        super().__init__()
        widths = [4, *(width << i for i in range(halvings))]
        self.space = nn.ModuleList(
            spectral_norm(nn.Conv2d(fine, coarse, 4, 2, 1)) for fine, coarse in pairwise(widths)
        )
        self.time = nn.ModuleList(
            spectral_norm(nn.Conv2d(coarse, coarse, (4, 1), (2, 1), (1, 0)))
            for coarse in widths[1:]
        )
        self.real = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))
        self.category = spectral_norm(nn.Embedding(categories, widths[-1]))
        _without_biases(self)

    def forward(self, clips: Tensor, category: Tensor) -> Tensor:
        """Return (B, t, h, w), positive where it sees a real clip of the category.

        Args:
            clips: (B, T, 1, S, S) in [0, 1], T at least 2 for each halving.
            category: (B,) long.
        """
        frames = clips.shape[1]
        x = F.pixel_unshuffle(2 * clips.flatten(0, 1) - 1, 2)
        for space, time in zip(self.space, self.time, strict=True):
            x = along_time(time, F.leaky_relu(space(x), 0.2), frames)
            x, frames = F.leaky_relu(x, 0.2), frames // 2
        x = x.contiguous(memory_format=torch.channels_last)
        shown = x.unflatten(0, (len(clips), frames)).mean((1, 3, 4))
        known: Tensor = (shown * self.category(category)).sum(1)
        real: Tensor = self.real(x)
        return real.view(len(clips), frames, *x.shape[2:]) + known.view(-1, 1, 1, 1)


class GrownDiscriminator(nn.Module):
    """The discriminator of a `StyleGenerator`, grown with it (Karras et al. 2018), of residual
    blocks with spectral norm (Miyato et al. 2018).

    Args:
        channels: of its features at 4, 8, … pixels, as the generator has them.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.grey = nn.ModuleList(spectral_norm(nn.Conv2d(1, c, 1)) for c in channels)
        self.blocks = nn.ModuleList(_Halving(fine, coarse) for coarse, fine in pairwise(channels))
        self.last = spectral_norm(nn.Conv2d(channels[0] + 1, channels[0], 3, padding=1))
        self.real = spectral_norm(nn.Linear(channels[0], 1))
        _without_biases(self)

    def forward(self, faces: Tensor, fade: float = 1.0) -> Tensor:
        """Return (B,), positive where it sees a real face.

        Args:
            faces: (B, 1, S, S) about in [0, 1], S = 4, 8, … up to what there are channels for.
            fade: in [0, 1], how much the last resolution counts.
        """
        faces = 2 * faces - 1
        stage = (faces.shape[-1] // 4).bit_length() - 1
        x = self.grey[stage](faces)
        for number in range(stage, 0, -1):
            x = self.blocks[number - 1](x)
            if number == stage and fade < 1:
                x = torch.lerp(self.grey[stage - 1](F.avg_pool2d(faces, 2)).to(x), x, fade)
        # how much the batch varies, so that a generator that draws one face is found out
        spread = x.to(faces.dtype).std(0).mean().to(x).expand(len(x), 1, *x.shape[2:])
        x = self.last(torch.cat([F.leaky_relu(x, 0.2), spread], 1))
        real: Tensor = self.real(F.leaky_relu(x, 0.2).sum((2, 3)))
        return real[:, 0]


class _Halving(nn.Module):
    """A residual block that splits the resolution."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.one = spectral_norm(nn.Conv2d(fine, fine, 3, padding=1))
        self.two = spectral_norm(nn.Conv2d(fine, coarse, 4, 2, 1))
        self.skip = spectral_norm(nn.Conv2d(fine, coarse, 1))

    def forward(self, x: Tensor) -> Tensor:
        around: Tensor = self.skip(F.avg_pool2d(x, 2))
        through: Tensor = self.two(F.leaky_relu(self.one(F.leaky_relu(x, 0.2)), 0.2))
        return around + through


def _without_biases(net: nn.Module) -> None:
    """Start all biases at nothing: beside features that spectral norm keeps small, the usual ones
    leave a net that is next to linear and hardly learns."""
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
