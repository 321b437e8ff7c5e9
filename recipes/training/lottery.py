"""Draws by weight that do not wait for the device that they are made on."""

from __future__ import annotations

import torch
from torch import Tensor


class Lottery:
    """Draws places by weight, with replacement; `torch.multinomial` has the host look at weights.

    Args:
        weight: (N,) float, not negative, one at least positive.
        device: where places are drawn.

    Raises:
        ValueError: no weight is positive.
    """

    def __init__(self, weight: Tensor, device: torch.device) -> None:
        edges = weight.double().cumsum(0)
        if not len(edges) or not edges[-1] > 0:
            raise ValueError("there is nothing to draw: no weight is positive")
        self.edges = (edges / edges[-1]).to(device)

    def __call__(self, count: int) -> Tensor:
        """Return so many places, (count,) long, from the device's random generator."""
        drawn = torch.rand(count, dtype=torch.float64, device=self.edges.device)
        return torch.searchsorted(self.edges, drawn, right=True)
