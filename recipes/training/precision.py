"""Mixed precision, where a device computes in it."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device has instructions for bfloat16."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bfloat16(
    device: torch.device, wanted: bool = True, cache_enabled: bool = True
) -> torch.autocast:
    """Return autocast to bfloat16; it does nothing on a CPU without instructions for it, where the
    same takes ten times as long as in float32.

    Args:
        device: where it is computed.
        wanted: False for one that does nothing.
        cache_enabled: as `torch.autocast` takes it.
    """
    enabled = wanted and has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled, cache_enabled)
