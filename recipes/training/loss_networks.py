"""Networks that losses ask about the faces that are made, and that learn nothing themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


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
        """Return how badly faces show their categories, a scalar; None if it knows none of them.

        Args:
            faces: (B, 1, S, S) grey faces in [0, 1].
            category: (B,) long.
        """
        if self.expression is None:
            return None
        logits = self.expression(faces).float()
        known = logits.gather(1, category[:, None])[:, 0].isfinite()
        if not known.any():
            return None
        return F.cross_entropy(logits[known], category[known])
