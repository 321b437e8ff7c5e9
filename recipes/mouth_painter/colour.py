"""The colour of the inside of a mouth, learned from London's photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from expraug.faces.composite import luminance
from expraug.networks.mouth_painter import (
    chroma_of,
    colour_terms,
    light_level,
    matte_of,
    nearness,
    surroundings,
)
from recipes.mouth_painter.data import Mouths

RIDGE = 0.02
DARKEST = 0.04
"""Luminance below which a photograph has noise for colour."""


def fit_colour(mouths: Mouths) -> Tensor:
    """Return the map from the skin's chroma to that of the inside, (4, 3, 3), by ridge regression.

    It says nothing without the skin's chroma, so that a grey face gets a grey mouth.

    Args:
        mouths: in colour.
    """
    rgb = mouths.pixels.float() / 255
    grey = luminance(rgb)
    outline = mouths.window().outline()
    seen = surroundings(outline)
    level = light_level(grey, seen)
    skin = chroma_of(rgb, seen * nearness(rgb))
    chroma = (rgb.clamp(min=0.01) / grey.clamp(min=0.01)).log()
    weight = matte_of(outline) * (grey > DARKEST)
    terms = torch.stack(torch.broadcast_tensors(*colour_terms(grey / level, outline.v)), 1)
    inputs = torch.einsum("bkchw,bj->bkjhw", terms, skin[:, :, 0, 0])
    inside = (weight[:, 0] > 0.5).nonzero(as_tuple=True)
    x = inputs.flatten(1, 2).permute(0, 2, 3, 1)[inside].double()
    y = chroma.permute(0, 2, 3, 1)[inside].double()
    # the skin's own chroma is where the map starts from, and what ridge draws it to
    start = torch.zeros(4, 3, 3, dtype=torch.float64)
    start[0] = torch.eye(3)
    flat = start.permute(0, 2, 1).flatten(0, 1)
    gram = x.T @ x / len(x)
    eye = torch.eye(len(gram), dtype=torch.float64)
    change = torch.linalg.solve(
        gram + RIDGE * gram.trace() / len(gram) * eye, x.T @ (y - x @ flat) / len(x)
    )
    colour: Tensor = (flat + change).view(4, 3, 3).permute(0, 2, 1).float()
    return colour
