"""The same digits, whatever the caller has set for networks of his own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Work in single precision, and on CUDA with convolutions that repeat themselves to the bit.

    Who augments faces inside of `torch.autocast`, as batch transforms in a training loop are, means
    it for the classifier: faces in half precision would be others, and others than in the cache.
    """
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        enabled = torch.backends.cudnn.enabled
        with torch.backends.cudnn.flags(
            enabled=enabled, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
