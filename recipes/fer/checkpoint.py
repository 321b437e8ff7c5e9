"""What a run that was broken off goes on from."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn


class Checkpoint:
    """Weights, their average and the optimizer's state, in one safetensors file.

    Args:
        file: where it is; None keeps nothing.
        model, average, optimizer: whose state it is.
    """

    def __init__(
        self,
        file: Path | None,
        model: nn.Module,
        average: ModelEmaV3,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.file, self.model, self.average, self.optimizer = file, model, average, optimizer

    def save(self, step: int) -> None:
        """Save the state before a step; before the first there is none."""
        if self.file is None or step == 0:
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        saved = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        save_file(saved, part, {"step": str(step)})
        part.replace(self.file)

    def load(self) -> int:
        """Restore, and return the step to go on with."""
        if self.file is None or not self.file.is_file():
            return 0
        with safe_open(self.file, "pt") as saved:
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
            step = int(saved.metadata()["step"])

        def named(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(named("model."))
        self.average.module.load_state_dict(named("average."))
        kept: dict[int, dict[str, Tensor]] = {}
        for name, value in named("optimizer.").items():
            index, _, field_name = name.partition(".")
            kept.setdefault(int(index), {})[field_name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})
        return step

    def remove(self) -> None:
        """Delete the file: the run is done."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)
