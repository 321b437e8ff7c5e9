"""What every trainer of a generator against discriminators has: optimizers, average and state."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Optimization:
    """How both sides are trained; the options of every trainer begin with it.

    Args:
        lr: of what makes faces, at first; it falls to nothing along half a cosine.
        discriminator_lr: of the discriminators, likewise.
        ema: decay of the moving average of what makes faces, which is what is kept.
        amp: bfloat16 autocast.
        compile: the generator, by torch.compile.
    """

    lr: float = 5e-4
    discriminator_lr: float = 2e-4
    ema: float = 0.998
    amp: bool = True
    compile: bool = False


class AdversarialTrainer:
    """Two sides that learn in turns, a moving average of the first, and a state to resume from.

    Args:
        made: what makes faces; its moving average is what is kept.
        discriminators: the discriminators.
        options: see there. Adam has betas 0.5 and 0.99; the average is faster in the first steps.
        steps: of the whole run, for the schedule.
        device: where all of it is.
    """

    def __init__(
        self,
        made: nn.Module,
        discriminators: nn.Module,
        options: Optimization,
        steps: int,
        device: torch.device,
    ) -> None:
        to: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        self.made, self.discriminators = made.to(**to), discriminators.to(**to)
        self.average = deepcopy(self.made).requires_grad_(False)
        self.device, self.step_count, self._decay = device, 0, options.ema
        sides = ((self.made, options.lr), (self.discriminators, options.discriminator_lr))
        self.optimizers = [torch.optim.Adam(s.parameters(), lr, (0.5, 0.99)) for s, lr in sides]
        # a function of the step, so that a resumed run may have another length
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(
                o, lambda step: 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps))
            )
            for o in self.optimizers
        ]
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=options.amp)

    def update_discriminators(self, loss: Tensor) -> None:
        """Take a step of the discriminators."""
        self._update(1, loss)
        torch.clear_autocast_cache()  # it holds their parameters as they were before

    def update_generator(self, loss: Tensor) -> None:
        """Take a step of what makes faces, which ends the step of training."""
        self._update(0, loss)
        with torch.no_grad():
            decay = min(self._decay, (1 + self.step_count) / (10 + self.step_count))
            kept, new = self.average.state_dict(), self.made.state_dict()
            for name, value in kept.items():
                if value.is_floating_point():
                    value.lerp_(new[name], 1 - decay)
                else:  # a count is taken as it is
                    value.copy_(new[name])
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
            "discriminators": self.discriminators.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.step_count = state["step"]
        for name in ("made", "average", "discriminators"):
            getattr(self, name).load_state_dict(state[name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        for schedule in self.schedules:
            schedule.last_epoch = self.step_count
