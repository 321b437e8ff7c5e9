"""Networks that losses ask about the faces that are made, and that learn nothing themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_UNKNOWN = -100


@dataclass(frozen=True)
class LossNetworks:
    """What a trainer asks of the faces that are made, differentiably.

    Args:
        identity: (B, 3, S, S) aligned faces in [0, 1] to (B, D) unit vectors; None for no triplet
            loss.
        expression: (B, 1, S, S) grey faces in [0, 1] to (B, categories) logits; a column of a
            category that it does not know is -inf. None for no cross entropy.
    """

    identity: Callable[[Tensor], Tensor] | None = None
    expression: Callable[[Tensor], Tensor] | None = None

    def cross_entropy(self, faces: Tensor, category: Tensor) -> Tensor | None:
        """Return how badly faces show their categories, a scalar; 0 if none of these is known, and
        None without a net.

        Args:
            faces: (B, 1, S, S) grey faces in [0, 1].
            category: (B,) long.
        """
        if self.expression is None:
            return None
        logits = self.expression(faces).float()
        known = logits.gather(1, category[:, None])[:, 0].isfinite()
        # rows are marked, not left out: to count them, the host would have to wait for the device
        wanted = torch.where(known, category, _UNKNOWN)
        wrong = F.cross_entropy(logits, wanted, ignore_index=_UNKNOWN, reduction="sum")
        return wrong / known.sum().clamp(min=1)
