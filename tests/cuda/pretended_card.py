"""A card that is only pretended, and yet computes: what runs off the CPU is tried on the CPU.

Inside of it tensors say that they are on "cuda", and what is asked for there is made on the CPU.
So every choice that expraug makes by a tensor's device is made as on a card, to real numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CARD = torch.device("cuda")
_CPU = torch.device("cpu")
_DEVICE = torch.Tensor.device.__get__


class PretendedCard(TorchFunctionMode):
    """Lets tensors say that they are on a card. Holds for one thread."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func == _DEVICE:
            return CARD
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args = tuple(_there(value) for value in args)
        kwargs = {name: _there(value) for name, value in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _there(value: Any) -> Any:
    if isinstance(value, torch.device) or value in ("cuda", "cuda:0"):
        return _CPU
    return value


class Operations(TorchDispatchMode):
    """Counts what is started on a device; views are nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            whole = func.decompose(*args, **kwargs)
        if whole is not NotImplemented:
            return whole
        self.operations += not func.is_view
        return func(*args, **kwargs)
