"""Which faces of a batch are computed together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def independently(*tensors: Tensor, most: int = 1) -> Iterator[tuple[Tensor, ...]]:
    """Yield the parts of a batch in which faces do not change each other's bytes.

    On the CPU a convolution rounds otherwise in a batch, so that faces come one by one; elsewhere
    all come at once. An empty batch is one part.

    Args:
        tensors: of one batch, so of one length.
        most: faces at a time on the CPU, for work that treats each by itself anyway.
    """
    count = most if tensors[0].device.type == "cpu" else max(1, len(tensors[0]))
    yield from zip(*(torch.split(tensor, count) for tensor in tensors), strict=True)
