"""What a training of `unet_cgan` is watched by: people who were held out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import save_image

from expraug.faces.composite import face_mask
from expraug.faces.warp import resized
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from recipes.unet_cgan.data import CodedPairs, within_the_frame

_SHOWN, _COMPARED = 8, 128


@torch.inference_mode()
def watch(
    model: UNetCGANSynthesizer,
    coded: CodedPairs,
    nets: Sequence[Callable[[Tensor], Tensor]],
    sheet: Path,
) -> dict[str, float]:
    """Make every expression of people held out, write the sheet, return the figures.

    Args:
        model: the synthesizer.
        coded: pairs, of which some are held out.
        nets: (B, 1, S, S) faces to logits of all expressions.
        sheet: PNG to write.

    Returns:
        The mean probability of each target, and how far the flow is from that of the pairs, in
        pixels of 128, beside how far it would be if nothing moved.
    """
    device = next(model.parameters()).device
    faces = coded.neutral_faces(True, _SHOWN).to(device)
    mask = face_mask(faces.shape[-1]).to(device)
    columns, figures = [faces], {}
    for expression in model.expressions:
        asked = torch.full((len(faces),), int(expression), device=device)
        variant = torch.arange(len(faces), device=device) % model.variants
        colour = faces.expand(-1, 3, -1, -1)
        made = model(colour, asked, torch.ones(len(faces), device=device), variant=variant)
        made = torch.lerp(faces, made[:, :1], mask)
        columns.append(made)
        if nets:
            found = torch.stack([net(made).float().softmax(1) for net in nets]).mean(0)
            figures[str(expression)] = float(found[:, model.expressions.index(expression)].mean())
    save_image(torch.stack(columns, 1).flatten(0, 1), sheet, nrow=len(columns), padding=1)
    return figures | distance(model, coded, device)


def distance(
    model: UNetCGANSynthesizer, coded: CodedPairs, device: torch.device
) -> dict[str, float]:
    """Return how far the flow of pairs held out is from theirs."""
    rows = np.flatnonzero(~coded.trained.numpy())[:_COMPARED]
    wanted = within_the_frame(coded.pairs.maps(rows))
    category = model.row[coded.target[torch.from_numpy(rows)].to(device)]
    maps = model.generator(
        coded.pairs.faces(rows).to(device), category, coded.code[0, rows].to(device)
    )
    side, weight = wanted.flow.shape[-1], coded.importance().to(device)
    made = resized(maps.flow, side)
    away, there = (
        float((128 * flow.norm(dim=1, keepdim=True) * weight).mean())
        for flow in (made - wanted.flow.to(device), wanted.flow.to(device))
    )
    lips = (maps.lips - wanted.lips.to(device)).norm(dim=3).mean() * 128
    return {"flow off": away, "flow of pairs": there, "lips off": float(lips)}
