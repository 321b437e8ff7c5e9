"""Teaches `FaceEmbedder` what a large identity encoder sees in faces."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from expraug.networks.embedder import FaceEmbedder
from recipes.training.precision import bfloat16


class Trainer:
    """Takes the steps: AdamW on the cosine to the teacher's vectors.

    Args:
        net: what learns.
        lr: at first; it falls to nothing along half a cosine.
        steps: of the whole run, for the schedule.
        device: where all of it is.
        amp: bfloat16, where the device has instructions for it.
    """

    def __init__(
        self, net: FaceEmbedder, lr: float, steps: int, device: torch.device, amp: bool = True
    ) -> None:
        to: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        self.net = net.to(**to)
        self.device, self.step_count = device, 0
        self.clock: Callable[[], float] | None = None
        self._optimizer = torch.optim.AdamW(self.net.parameters(), lr, weight_decay=0.05)

        # a function of the step, so that a resumed run may have another length
        def share(step: int) -> float:
            done = step / steps if self.clock is None else self.clock()
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, done))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, share)
        self._autocast = bfloat16(device, amp)

    def step(self, faces: Tensor, wanted: Tensor) -> dict[str, float]:
        """Take one step; return the loss.

        Args:
            faces: (B, 1, S, S) in [0, 1], aligned.
            wanted: (B, 128) unit vectors of the same.
        """
        with self._autocast:
            found = self.net(faces)
        loss = (1 - (found.float() * wanted).sum(1)).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self.step_count += 1
        return {"cosine distance": float(loss.detach())}

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs; tensors, numbers and dictionaries only."""
        return {
            "step": self.step_count,
            "net": self.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.step_count = state["step"]
        self.net.load_state_dict(state["net"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.last_epoch = self.step_count
