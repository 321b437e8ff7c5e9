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
        found = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"device must be 'cpu', 'cuda' or the like, not {device!r}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"device={str(device)!r}, but torch {torch.__version__} finds no CUDA device (no GPU, "
            f"no driver, or a torch built for CPUs): use device='cpu'"
        )
    try:
        torch.zeros(1, device=found)
    except Exception as error:  # torch raises RuntimeError, AssertionError and NotImplementedError
        raise DeviceError(f"device={str(device)!r} cannot be used: {error}") from error
    return found
