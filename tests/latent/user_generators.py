"""Generators as somebody else might write them, found by their import string."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from expraug.latent.stylegan import StyleGANFaces

LAYERS, WIDTH, SIZE = 4, 6, 24


class Blobs(nn.Module):
    """A `FaceGenerator` that has nothing to do with ours: a sum of learned pictures."""

    layers, width, image_size = LAYERS, WIDTH, SIZE

    def __init__(self) -> None:
        super().__init__()
        self.pictures = nn.Parameter(torch.randn(LAYERS * WIDTH, SIZE, SIZE))

    def mapping(self, z: Tensor) -> Tensor:
        return z[:, None].expand(-1, LAYERS, -1)

    def synthesis(self, latents: Tensor) -> Tensor:
        mixed = torch.einsum("bk,kij->bij", latents.flatten(1), self.pictures)
        return (0.5 + 0.05 * mixed)[:, None]


def blobs() -> Blobs:
    return Blobs()


class _Mapping(nn.Module):
    def __init__(self, conditions: int) -> None:
        super().__init__()
        self.conditions = conditions

    def forward(self, z: Tensor, c: Tensor | None) -> Tensor:
        if self.conditions:
            assert c is not None
            assert c.shape == (len(z), self.conditions)
            assert not c.any()
        else:
            assert c is None
        return z.tanh()[:, None].repeat(1, LAYERS, 1)


class _Synthesis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Linear(WIDTH, 3 * 32 * 32)

    def forward(self, ws: Tensor, noise_mode: str = "random", force_fp32: bool = False) -> Tensor:
        faces = self.colour(ws.mean(1)).view(-1, 3, 32, 32).tanh()
        if noise_mode == "random":
            faces = faces + 0.1 * torch.randn_like(faces)
        return faces if force_fp32 else faces.half()


class FakeStyleGAN(nn.Module):
    """The interface of NVIDIA's generators."""

    def __init__(self, conditions: int = 0) -> None:
        super().__init__()
        self.z_dim = self.w_dim = WIDTH
        self.num_ws, self.c_dim, self.img_resolution = LAYERS, conditions, 32
        self.mapping, self.synthesis = _Mapping(conditions), _Synthesis()


def stylegan() -> StyleGANFaces:
    return StyleGANFaces(FakeStyleGAN(), image_size=SIZE)


def nothing() -> Any:
    return object()
