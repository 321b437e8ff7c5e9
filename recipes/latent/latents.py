"""Latents that an inversion finds in many faces, and files of what takes long to find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.latent.generator import encode
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer


def digest(text: str) -> str:
    """Return a short name of what something was made of."""
    return xxhash.xxh64_hexdigest(text.encode())


def cached(file: Path, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor in a file, which is made if it is not there."""
    if not file.is_file():
        save_file({"values": make().contiguous()}, file)
    return load_file(file)["values"]


@torch.no_grad()
def latents_of(model: EmotionGANSynthesizer, faces: Tensor, shapes: Tensor | None = None) -> Tensor:
    """Return (N, L, W) latents of (N, 1, S, S) uint8 faces, on the CPU; see `encode` for shapes."""
    device, found = model.mean.device, []
    for at in torch.arange(len(faces)).split(256):
        grey = faces[at].to(device).float() / 255
        shape = None if shapes is None else shapes[at].to(device)
        # in batches, unlike `invert`: a last digit does not matter to a fit
        if model.encoder is None:
            latents = model.invert(grey)
        else:
            latents = encode(model.generator, model.encoder, model.shown(grey), shape)
        found.append(latents.cpu())
    return torch.cat(found)
