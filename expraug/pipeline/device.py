"""Devices that are there."""

from __future__ import annotations

import torch

from expraug.errors import DeviceError


def existing_device(device: str | torch.device) -> torch.device:
    """Return a device that torch can use here.

    Raises:
        DeviceError: there is no such device.
    """
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError and NotImplementedError
        hint = ""
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            hint = " (no GPU, no driver, or a torch built for CPUs): use device='cpu'"
        reason = str(error).strip().splitlines()[0]
        raise DeviceError(f"device={str(device)!r} cannot be used: {reason}{hint}") from error
    return torch.device(device)
