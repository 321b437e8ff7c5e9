"""A generator of the size of StarGAN's (Choi et al. 2018), to compare speeds with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StarGANSize(nn.Module):
    """A generator of the size and layers of StarGAN's (Choi et al. 2018): 8.4 million weights."""

    def __init__(self, classes: int = 8) -> None:
        super().__init__()

        def layer(convolution: nn.Module, width: int) -> list[nn.Module]:
            return [convolution, nn.InstanceNorm2d(width, affine=True), nn.ReLU(inplace=True)]

        layers = layer(nn.Conv2d(3 + classes, 64, 7, 1, 3, bias=False), 64)
        for width in (64, 128):
            layers += layer(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), 2 * width)
        layers += [_Residual(256) for _ in range(6)]
        for width in (256, 128):
            layers += layer(nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), width // 2)
        self.layers = nn.Sequential(*layers, nn.Conv2d(64, 3, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, faces: Tensor, classes: Tensor) -> Tensor:
        planes = classes[:, :, None, None].expand(-1, -1, *faces.shape[2:])
        made: Tensor = self.layers(torch.cat([2 * faces - 1, planes], 1))
        return made


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out
