"""What every trainer of a generator against discriminators has: optimizers, average and state."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class AdversarialTrainer:
    """Two sides that learn in turns, a moving average of the first, and a state to resume from.

    Args:
        made: what makes faces; its moving average is what is kept.
        judges: the discriminators.
        rates: learning rates of both at first; they fall to nothing along half a cosine.
        betas: of Adam.
        ema: decay of the moving average, which is faster in the first steps.
        steps: of the whole run, for the schedule.
        device: where all of it is.
        amp: bfloat16 autocast.
    """

    def __init__(
        self,
        made: nn.Module,
        judges: nn.Module,
        rates: tuple[float, float],
        betas: tuple[float, float],
        ema: float,
        steps: int,
        device: torch.device,
        amp: bool,
    ) -> None:
        to: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        self.made, self.judges = made.to(**to), judges.to(**to)
        self.average = deepcopy(self.made).requires_grad_(False)
        self.device, self.step_count, self._decay = device, 0, ema
        sides = zip((self.made, self.judges), rates, strict=True)
        self.optimizers = [torch.optim.Adam(s.parameters(), lr, betas) for s, lr in sides]
        self.schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(o, steps) for o in self.optimizers
        ]
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=amp)

    def update_judges(self, loss: Tensor) -> None:
        """Take a step of the discriminators."""
        self._update(1, loss)
        torch.clear_autocast_cache()  # it holds their parameters as they were before

    def update_made(self, loss: Tensor) -> None:
        """Take a step of what makes faces, which ends the step of training."""
        self._update(0, loss)
        with torch.no_grad():
            decay = min(self._decay, (1 + self.step_count) / (10 + self.step_count))
            kept, new = self.average.state_dict(), self.made.state_dict()
            for name, value in kept.items():
                value.lerp_(new[name], 1 - decay) if value.is_floating_point() else value.copy_(
                    new[name]
                )
        self.step_count += 1
        for schedule in self.schedules:
            schedule.step()

    def _update(self, which: int, loss: Tensor) -> None:
        # the loss of one side leaves gradients in the other too: each clears its own
        self.optimizers[which].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[which].step()

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs; tensors, numbers and dictionaries only."""
        return {
            "step": self.step_count,
            "made": self.made.state_dict(),
            "average": self.average.state_dict(),
            "judges": self.judges.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedules": [s.state_dict() for s in self.schedules],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.step_count = state["step"]
        for name in ("made", "average", "judges"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("optimizers", "schedules"):
            for part, kept in zip(getattr(self, name), state[name], strict=True):
                part.load_state_dict(kept)
