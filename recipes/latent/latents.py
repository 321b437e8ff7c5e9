"""Latents of many faces, and files of what takes long to find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expraug.faces.composite import hide_background
from expraug.faces.warp import resized
from expraug.latent.generator import FaceGenerator, encode
from expraug.synthesizers.latent_maps import pictures_of
from recipes.real_faces import Faces

Invert: TypeAlias = Callable[[Tensor], Tensor]
"""(B, 1, S, S) float faces in [0, 1] to (B, L, W) latents."""


def digest(text: str) -> str:
    """Return a short name of what something was made of."""
    return xxhash.xxh64_hexdigest(text.encode())


def key_of(generator: FaceGenerator) -> str:
    """Return a name for what latents mean to a generator: a painted one's pictures, of others all
    weights."""
    named = pictures_of(generator) or generator
    assert isinstance(named, nn.Module)
    found = xxhash.xxh64()
    for name, value in sorted(named.state_dict().items()):
        found.update(name.encode())
        plain = value.cpu().float() + 0.0  # no two zeros
        found.update(plain.contiguous().numpy().data)
    return found.hexdigest()


def cached(file: Path, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor in a file, which is made if it is not there."""
    if not file.is_file():
        save_file({"values": make().contiguous()}, file)
    return load_file(file)["values"]


@torch.no_grad()
def latents_of(
    generator: FaceGenerator, faces: Tensor, landmarks: Tensor, invert: Invert | None = None
) -> Tensor:
    """Return (N, L, W) latents of (N, 1, S, S) uint8 faces, on the CPU.

    Args:
        generator: of the latents. A painted one reads them off faces and landmarks.
        landmarks: (N, 478, 2) of the faces, as fractions of the frame's side.
        invert: what finds the latents of any other generator.

    Raises:
        ValueError: the generator is not painted, and there is nothing to invert it with.
    """
    pictures, found = pictures_of(generator), []
    if pictures is None and invert is None:
        raise ValueError("only a painted generator reads latents off landmarks; give an inversion")
    for at in torch.arange(len(faces)).split(256):
        if pictures is not None:
            on = pictures.rest.device
            grey = hide_background(faces[at].to(on).float() / 255)
            latents = encode(generator, None, grey, pictures.shapes(landmarks[at].to(on)))
        elif invert is not None:
            latents = invert(faces[at].float() / 255)
        found.append(latents.cpu())
    return torch.cat(found)


def latents_of_faces(
    generator: FaceGenerator, faces: Faces, work: Path, invert: Invert | None = None
) -> Tensor:
    """Return (N, L, W) latents of real faces, from the work folder where they are there already."""
    mesh = torch.from_numpy(faces.mesh[..., :2])
    file = (
        work
        / f"latents-{digest(f'{len(faces)} {faces.row.sum()} {key_of(generator)}')}.safetensors"
    )
    small = at_side(faces, generator.image_size)
    return cached(file, lambda: latents_of(generator, small, mesh, invert))


def at_side(faces: Faces, side: int) -> Tensor:
    """Return real faces as (N, 1, side, side) uint8."""
    parts = [resized(part.float(), side).round() for part in faces.grey().split(1024)]
    return torch.cat(parts).to(torch.uint8)
