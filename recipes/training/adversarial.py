"""What every trainer of a generator against discriminators has: optimizers, average and state."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from recipes.training.precision import bfloat16


@dataclass(frozen=True)
class Optimization:
    """How both sides are trained; the options of every trainer begin with it.

    Args:
        lr: of what makes faces, at first; it falls to nothing along half a cosine.
        discriminator_lr: of the discriminators, likewise.
        ema: decay of the moving average of what makes faces, which is what is kept.
        amp: bfloat16, where the device has instructions for it.
        compile: the generator, by torch.compile.
    """

    lr: float = 5e-4
    discriminator_lr: float = 2e-4
    ema: float = 0.998
    amp: bool = True
    compile: bool = False


class AdversarialTrainer:
    """Two sides that learn in turns, a moving average of the first, and a state to resume from.

    A step never waits for the device: losses come back as tensors.

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
        self._steps = steps
        # how far a run has come that ends at a time, not after so many steps
        self.clock: Callable[[], float] | None = None
        sides = ((self.made, options.lr), (self.discriminators, options.discriminator_lr))
        self.optimizers = [
            torch.optim.Adam(s.parameters(), lr, (0.5, 0.99), fused=True) for s, lr in sides
        ]
        # a function of what is done, so that a resumed run may have another length
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(
                o, lambda _: 0.5 + 0.5 * math.cos(math.pi * self.progress)
            )
            for o in self.optimizers
        ]
        kept = zip(self.average.state_dict().values(), made.state_dict().values(), strict=True)
        both = [(k, new) for k, new in kept]
        self._averaged = [pair for pair in both if pair[0].is_floating_point()]
        self._counted = [pair for pair in both if not pair[0].is_floating_point()]
        self.autocast = bfloat16(device, options.amp)

    @property
    def progress(self) -> float:
        """How much of the run is done, in [0, 1]: of its time if it has a clock, or of its
        steps."""
        done = self.step_count / self._steps if self.clock is None else self.clock()
        return min(1.0, done)

    def update_discriminators(self, loss: Tensor) -> None:
        """Take a step of the discriminators."""
        self._update(1, loss)
        torch.clear_autocast_cache()  # it holds their parameters as they were before

    def update_generator(self, loss: Tensor) -> None:
        """Take a step of what makes faces, which ends the step of training."""
        self._update(0, loss)
        with torch.no_grad():
            decay = min(self._decay, (1 + self.step_count) / (10 + self.step_count))
            average, new = zip(*self._averaged, strict=True)
            get_ema_multi_avg_fn(decay)(average, new, None)
            for count, now in self._counted:  # a count is taken as it is
                count.copy_(now)
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
