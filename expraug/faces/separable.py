"""Sampling on grids that are not rotated, as those of face crops: rows first, then columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

MAX_TURN = 1e-3
"""A grid of which rotation moves no point further than this, in input pixels, counts as upright."""


def is_upright(matrix: np.ndarray) -> bool:
    """Say whether a (2, 3) matrix, as `align.sample` takes it, rotates nothing."""
    return bool(abs(matrix[0, 1]) < MAX_TURN and abs(matrix[1, 0]) < MAX_TURN)


def sample_upright(
    image: Tensor, matrix: np.ndarray, size: tuple[int, int], per_pixel: int
) -> Tensor:
    """Do for one upright image, several times faster, what `align.sample` does for a batch.

    Bilinear sampling and the box filter are weights on a few rows and columns of the input, which
    all output pixels of a row or column share.

    Args:
        image: (C, H, W) float.
        matrix: (2, 3); see `is_upright`.
        size, per_pixel: as `align.sample` takes them.

    Returns:
        (C, *size) float.
    """
    rows = _rows(matrix, image.shape[-2], size[0], per_pixel, image.dtype)
    columns = _columns(matrix, image.shape[-1], size[1], per_pixel, image.dtype)
    return _weigh_columns(_weigh_rows(image, rows), columns)


def strips_upright(
    image: Tensor, matrix: np.ndarray, size: tuple[int, int], per_pixel: int, parts: Sequence[slice]
) -> Iterator[Tensor]:
    """Yield what `sample_upright` returns in strips of some rows each, (C, rows, W).

    For outputs larger than the image: columns come first, which costs least there.
    """
    columns = _columns(matrix, image.shape[-1], size[1], per_pixel, image.dtype)
    rows = _rows(matrix, image.shape[-2], size[0], per_pixel, image.dtype)
    wide = _weigh_columns(image, columns).contiguous()
    for part in parts:
        yield _weigh_rows(wide, [(index[part], weight[part]) for index, weight in rows])


def _rows(matrix: np.ndarray, length: int, size: int, per_pixel: int, dtype: torch.dtype) -> _Taps:
    return _taps(float(matrix[1, 1]), float(matrix[1, 2]), length, size, per_pixel, dtype)


def _columns(
    matrix: np.ndarray, length: int, size: int, per_pixel: int, dtype: torch.dtype
) -> _Taps:
    return _taps(float(matrix[0, 0]), float(matrix[0, 2]), length, size, per_pixel, dtype)


def _weigh_columns(image: Tensor, taps: _Taps) -> Tensor:
    """Return sums of weighted columns of (C, H, W): (C, H, size)."""
    return _weigh_rows(image.transpose(1, 2).contiguous(), taps).transpose(1, 2)


_Taps = list[tuple[Tensor, Tensor]]


def _weigh_rows(image: Tensor, taps: _Taps) -> Tensor:
    """Return sums of weighted rows of (C, H, W): (C, size, W)."""
    (index, weight), *rest = taps
    total = image.index_select(1, index).mul_(weight)
    for index, weight in rest:
        total.addcmul_(image.index_select(1, index), weight)
    return total


@lru_cache(maxsize=64)
def _taps(
    step: float, start: float, length: int, size: int, per_pixel: int, dtype: torch.dtype
) -> _Taps:
    """Return which of `length` input pixels the `size` output pixels see, and how much of each.

    The k-th pair holds the index of the k-th input pixel that each output pixel sees, (size,), and
    its weight, (size, 1).
    """
    count = size * per_pixel
    positions = ((np.arange(count) + 0.5) / count * step + start - 0.5).clip(0, length - 1)
    low = np.floor(positions).astype(np.int64).clip(max=max(length - 2, 0)).reshape(size, per_pixel)
    upper = positions.reshape(size, per_pixel) - low
    first = low.min(axis=1, keepdims=True)
    weights = np.zeros((int((low - first).max()) + 2, size))
    for part, share in ((low - first, 1 - upper), (low - first + 1, upper)):
        np.add.at(weights, (part, np.arange(size)[:, None]), share / per_pixel)
    indices = (first[:, 0] + np.arange(len(weights))[:, None]).clip(max=length - 1)
    with torch.inference_mode(False):  # they are kept: whoever needs gradients may use them next
        columns = torch.from_numpy(weights).to(dtype).unsqueeze(2)
        return list(zip(torch.from_numpy(indices), columns, strict=True))
