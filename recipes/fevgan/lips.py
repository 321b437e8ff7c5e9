"""Teach `fevgan` where lips are, from real faces whose landmarks are known.

    python -m recipes.fevgan.lips DATA --out LIPS.safetensors

DATA and `--faces` are as `recipes.real_faces` takes them; training people's faces are learned from,
validation people's say how well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from safetensors.torch import save_file
from torch import Tensor

from expraug.faces.mouth import lips_of
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.fevgan.net import LipFinder
from recipes.fevgan.clips import Ways, softened
from recipes.pairs.made import mirrored
from recipes.real_faces import FER2013, FILES, LFW, LONDON, extract

SIDE = 64
BATCH, RATE = 64, 1e-3


def faces_and_lips(data: Path, work: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return the faces of a split, (N, 1, 128, 128) uint8, and their lips, (N, 2, 11, 2)."""
    found = []
    for origin in (FER2013, LFW, LONDON):
        faces = extract(origin, data / FILES[origin][0], work)
        faces = faces.take((faces.split == split).nonzero()[0])
        found.append((faces.grey(), lips_of(torch.from_numpy(faces.mesh))))
    pixels, lips = (torch.cat(kind) for kind in zip(*found, strict=True))
    return pixels, lips.float()


def drawn(pixels: Tensor, lips: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, 1, 128, 128) uint8 faces mirrored, aligned otherwise, relit and blurred, at 64
    pixels, and their lips."""
    count = len(pixels)
    faces, none = pixels.float() / 255, lips.new_zeros(count, 1, 2, 2)
    maps = ExpressionMaps(none.expand(-1, 2, -1, -1), none, lips, lips, none[:, 0])
    mirror = torch.rand(count, 1, 1, 1) < 0.5
    faces = torch.where(mirror, faces.flip(3), faces)
    ways = Ways.drawn(count)
    flipped = torch.where(mirror, mirrored(maps).lips, lips)
    maps = ways.maps(ExpressionMaps(maps.flow, none, flipped, flipped, none[:, 0]), 2)
    small = F.interpolate(ways.faces(faces), (SIDE, SIDE), mode="area")
    power = torch.empty(count, 1, 1, 1).uniform_(-0.4, 0.4).exp()
    return softened(small.clamp(min=1e-3) ** power), maps.lips


@torch.no_grad()
def error(net: LipFinder, pixels: Tensor, lips: Tensor) -> float:
    """Return the mean distance to the lips along each axis, in pixels of a face of 64."""
    away = [
        (net(F.interpolate(p.float() / 255, (SIDE, SIDE), mode="area")) - at).abs().mean((1, 2, 3))
        for p, at in zip(pixels.split(256), lips.split(256), strict=True)
    ]
    return SIDE * float(torch.cat(away).mean())


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    faces: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    steps: int = 2500,
    seed: int = 0,
) -> None:
    torch.manual_seed(seed)
    pixels, lips = faces_and_lips(data, faces, "train")
    net = LipFinder()
    net.last.weight.data.mul_(0.1)
    net.last.bias.data.copy_(lips.mean(0).flatten())
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        rows = torch.randint(len(pixels), (BATCH,))
        seen, wanted = drawn(pixels[rows], lips[rows])
        loss = SIDE * (net(seen) - wanted).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step}: {float(loss.detach()):.3f} pixels", flush=True)
    own = error(net, *faces_and_lips(data, faces, "validation"))
    usual = SIDE * float((lips - lips.mean(0)).abs().mean())
    print(f"validation: {own:.3f} pixels; the usual mouth: {usual:.3f}")
    save_file(net.state_dict(), out)


if __name__ == "__main__":
    typer.run(main)
