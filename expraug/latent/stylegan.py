"""NVIDIA's StyleGAN2 and StyleGAN3 networks as a `FaceGenerator`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from expraug.faces.composite import luminance

STILL: Mapping[str, Any] = {"noise_mode": "const", "force_fp32": True}
"""What their `synthesis` is told, so that a latent is one face: no fresh noise, and no fp16."""


class StyleGANFaces(nn.Module):
    """The generator (`G` or `G_ema`) of NVIDIA's PyTorch code, its faces made grey.

    Its faces must be aligned as `expraug.faces.align` does: a network trained on otherwise aligned
    faces, as FFHQ's are, draws none that are near ours.

    Args:
        network: has `mapping(z, c)`, which returns (B, L, W) latents, and `synthesis(latents)`,
            which returns (B, 3, R, R) in [-1, 1]; the attributes `num_ws`, `w_dim` and, of
            conditional networks, `c_dim`, as NVIDIA's have them. The condition is always zeros.
        image_size: side of the faces that are asked of it, in pixels.
        options: keyword arguments of `synthesis`.
    """

    def __init__(
        self, network: Any, image_size: int = 128, options: Mapping[str, Any] = STILL
    ) -> None:
        super().__init__()
        self.network, self.image_size, self.options = network, image_size, dict(options)
        self.layers, self.width = _number(network, "num_ws"), _number(network, "w_dim")
        self.conditions = _number(network, "c_dim") if hasattr(network, "c_dim") else 0

    def mapping(self, z: Tensor) -> Tensor:
        """Return (B, L, W) latents for (B, Z) standard normal draws."""
        condition = z.new_zeros(len(z), self.conditions) if self.conditions else None
        latents: Tensor = self.network.mapping(z, condition)
        return latents

    def synthesis(self, latents: Tensor) -> Tensor:
        """Return (B, 1, S, S) grey faces, about in [0, 1], of (B, L, W) latents."""
        faces = self.network.synthesis(latents, **self.options).to(torch.float32)
        grey = luminance(0.5 + 0.5 * faces)
        if grey.shape[-1] == self.image_size:
            return grey
        resized: Tensor = resize(grey, [self.image_size, self.image_size], antialias=True)
        return resized


def _number(network: Any, name: str) -> int:
    value = getattr(network, name, None)
    if not isinstance(value, int):
        raise TypeError(
            f"{type(network).__name__} has no whole number {name!r}, as NVIDIA's generators have: "
            f"write a FaceGenerator of your own around it (expraug/latent/generator.py)"
        )
    return value
