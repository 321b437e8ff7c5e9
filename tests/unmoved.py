"""A synthesizer that claims expressions which it does not make: the landmark gate must see it."""

from __future__ import annotations

import torch

from expraug.expressions import Expression
from expraug.synthesizer import Synthesizer, register_synthesizer


@register_synthesizer("unmoved")
class Unmoved(Synthesizer):
    """Makes faces a little darker: they change, and show what they showed."""

    expressions = tuple(Expression)
    image_size = 64

    def forward(
        self, faces: torch.Tensor, target: torch.Tensor, intensity: torch.Tensor
    ) -> torch.Tensor:
        return faces * (1 - 0.1 * intensity.view(-1, 1, 1, 1))
