"""Faces as expressions change them, small and differentiable: what the losses look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.mouth import MouthWindow, painted_share
from expraug.faces.warp import pixel_grid, resized
from expraug.networks.mouth_painter import lay, light_level, matte_of, surroundings
from expraug.synthesizers.expression_maps import ExpressionMaps


def render_small(faces: Tensor, maps: ExpressionMaps) -> Tensor:
    """Return changed faces, (B, 1, s, s) float in [0, 1].

    What is in a mouth is laid in as lightly or darkly as the interior says: the painter would add
    teeth that are no larger than a pixel here, at most of the cost of a step.

    Args:
        faces: (B, 1, s, s) float in [0, 1], aligned.
        maps: with a flow over the canonical frame.
    """
    side = faces.shape[-1]
    grid = pixel_grid(side, faces) + 2 * resized(maps.flow, side)
    warped = F.grid_sample(
        faces, grid.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    lit = (warped * torch.exp(resized(maps.lightening, side))).clamp(0, 1)
    share = painted_share(maps.lips, maps.moved_lips)[..., None, None]
    window = MouthWindow.around(maps.moved_lips)
    outline = window.outline()
    level = light_level(window.cut(lit), surroundings(outline)).detach()
    inside = level * (1 + lay(maps.interior, outline)).clamp(0, 2)
    paint, matte = window.put_back(torch.cat([inside, matte_of(outline)], 1), side).chunk(2, 1)
    matte = matte * share
    return (lit * (1 - matte) + paint * matte).clamp(0, 1)
