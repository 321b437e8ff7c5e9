"""Devices that are there, and devices that are only named."""

from __future__ import annotations

import torch

from expraug.errors import DeviceError


def named_device(device: str | torch.device) -> torch.device:
    """Return a device that torch knows, whether or not this machine has it.

    Raises:
        DeviceError: torch knows no such device.
    """
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"device must be 'cpu', 'cuda' or the like, not {device!r}") from error


def existing_device(device: str | torch.device) -> torch.device:
    """Return a device that torch can use here.

    Raises:
        DeviceError: there is no such device.
    """
    found = named_device(device)
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


def device_for(device: str | torch.device, on_miss: str) -> torch.device:
    """Return the device of an augmenter; one that only reads a cache may name any."""
    return existing_device(device) if on_miss == "synthesize" else named_device(device)
