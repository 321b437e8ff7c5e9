"""Five-point similarity alignment into the one canonical frame that every synthesizer shares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.pixels import Pixels, shrunk, stack
from expraug.faces.planes import box_means
from expraug.faces.separable import is_upright, sample_upright, strips_upright

TEMPLATE = np.array(
    [[0.35, 0.38], [0.65, 0.38], [0.50, 0.551], [0.376, 0.726], [0.624, 0.726]], np.float64
)
"""The canonical frame: (x, y), as fractions of its side, of the eye centres (first the one on the
left of the image), the nose tip and the mouth corners. Forehead, chin and cheeks are inside."""

POINT_WEIGHTS = np.array([1.0, 1.0, 1.0, 0.5, 0.5])
"""Mouth corners move with the expression, so they pull on the frame less than the eyes do."""


def similarity(points: np.ndarray) -> np.ndarray:
    """Return the transforms from the canonical frame to the image, by weighted least squares.

    Args:
        points: (B, 5, 2) pixel coordinates (x, y), pixel centres at whole numbers, in the order of
            `TEMPLATE`.

    Returns:
        (B, 2, 3) float64: `image_xy = matrix @ (canonical_x, canonical_y, 1)`, with canonical
        coordinates in [0, 1] and image coordinates counted from the image's corner.
    """
    weights = POINT_WEIGHTS / POINT_WEIGHTS.sum()
    # as complex numbers a similarity is z -> a z + b, and its least squares a single quotient
    z = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]
    p = (points[..., 0] + 0.5) + 1j * (points[..., 1] + 0.5)
    z_mean, p_mean = weights @ z, p @ weights
    dz = z - z_mean
    a = (weights * dz.conj() * (p - p_mean[:, None])).sum(axis=1) / (weights * abs(dz) ** 2).sum()
    b = p_mean - a * z_mean
    return np.stack(
        [np.stack([a.real, -a.imag, b.real], -1), np.stack([a.imag, a.real, b.imag], -1)], axis=1
    )


def invert(matrices: np.ndarray) -> np.ndarray:
    """Return the inverses of (B, 2, 3) similarity transforms, same shape."""
    linear = np.linalg.inv(matrices[:, :, :2])
    return np.concatenate([linear, -linear @ matrices[:, :, 2:]], axis=2)


MAX_SUPERSAMPLING = 16
"""Beyond it a face is so large that skipping some of its pixels does not show."""


CPU_CACHE_BYTES = 1 << 20
"""Images, or strips of one, are sampled so many at a time that they stay in a core's cache."""

REDUCED_FROM, REDUCED_TO = 6.0, 3.0
"""Image pixels on one of the canonical frame from which an image is reduced before it is aligned,
and how many remain at least: work does not grow with a photograph."""


def scale(matrix: np.ndarray, size: int) -> float:
    """Return how many image pixels one pixel of a canonical frame of side `size` covers."""
    return math.hypot(matrix[0, 0], matrix[1, 0]) / size


def supersampling(ratio: float) -> int:
    """Return how many samples per side an output pixel needs that covers `ratio` input pixels."""
    return min(max(1, math.ceil(ratio - 0.25)), MAX_SUPERSAMPLING)


def reduce(pixels: Pixels, matrix: np.ndarray, size: int) -> tuple[Pixels, np.ndarray]:
    """Return an image as small as its aligned face needs it: averages of squares of pixels.

    Args:
        pixels: of an image, or a part of one.
        matrix: (2, 3) from `similarity`.
        size: side of the canonical frame, in pixels.

    Returns:
        The image and the matrix to it; the very arguments where the face is not that large.
    """
    ratio = scale(matrix, size)
    if ratio < REDUCED_FROM:
        return pixels, matrix
    factor = int(ratio / REDUCED_TO)
    return shrunk(pixels, factor), matrix / factor


def sample(images: Tensor, matrices: Tensor, size: tuple[int, int], per_pixel: int = 1) -> Tensor:
    """Sample images on affine grids, bilinearly, with box filtering against aliasing.

    Args:
        images: (B, C, H, W) float.
        matrices: (B, 2, 3): from output coordinates in [0, 1]² to input pixels, counted from the
            input's corner.
        size: (height, width) of the output.
        per_pixel: samples per side in each output pixel, averaged.

    Returns:
        (B, C, *size) float; outside the input its border is repeated.
    """
    if images.device.type != "cpu":
        return _sample_grid(images, matrices, size, per_pixel)
    out = images.new_empty(*images.shape[:2], *size)
    turned = []
    for i, matrix in enumerate(matrices.numpy()):
        if is_upright(matrix):
            out[i] = sample_upright(images[i], matrix, size, per_pixel)
        else:
            turned.append(i)
    step = max(1, CPU_CACHE_BYTES // (2 * out.element_size() * size[0] * size[1] * per_pixel**2))
    for start in range(0, len(turned), step):
        part = turned[start : start + step]
        out[part] = _sample_grid(images[part], matrices[part], size, per_pixel)
    return out


def strips(
    image: Tensor,
    matrix: np.ndarray,
    size: tuple[int, int],
    per_pixel: int,
    parts: Sequence[slice],
) -> Iterator[Tensor]:
    """Yield what `sample` returns of one image on the CPU, strip by strip.

    Args:
        image: (C, H, W) float.
        matrix: (2, 3), as `sample` takes it.
        size, per_pixel: as `sample` takes them.
        parts: rows of the output, of each strip.

    Yields:
        (C, rows, W) float.
    """
    if is_upright(matrix):
        yield from strips_upright(image, matrix, size, per_pixel, parts)
        return
    matrices = torch.from_numpy(matrix[None])
    for part in parts:
        yield _sample_grid(image[None], matrices, size, per_pixel, part)[0]


def _sample_grid(
    images: Tensor,
    matrices: Tensor,
    size: tuple[int, int],
    per_pixel: int,
    part: slice | None = None,
    inside: Tensor | None = None,
) -> Tensor:
    """Sample on grids, or on some rows of them.

    Args:
        inside: (B, 2) float, (width, height) of each image where what is right of it or below is
            padding; None where there is none.
    """
    height, width = images.shape[-2:]
    dtype, device = images.dtype, images.device
    theta = matrices.to(device=device, dtype=dtype)
    first, last = (0, size[0]) if part is None else (part.start, part.stop)
    tall, wide = (last - first) * per_pixel, size[1] * per_pixel
    rows = torch.arange(first * per_pixel, last * per_pixel, dtype=dtype, device=device)
    rows = (rows + 0.5) / (size[0] * per_pixel)
    columns = (torch.arange(wide, dtype=dtype, device=device) + 0.5) / wide
    # to grid_sample's [-1, 1], which spans the input corner to corner (align_corners=False)
    to_unit = torch.tensor([2 / width, 2 / height], dtype=dtype, device=device)
    along_x = (theta[:, :, 0] * to_unit).view(-1, 2, 1, 1)
    along_y = (theta[:, :, 1] * to_unit).view(-1, 2, 1, 1)
    start = (theta[:, :, 2] * to_unit - 1).view(-1, 2, 1, 1)
    grid = images.new_empty(len(images), 2, tall, wide)
    for axis in (0, 1):  # one plane after the other, which is quicker than pairs
        across = columns.view(1, 1, -1) * along_x[:, axis] + start[:, axis]
        torch.add(across, rows.view(1, -1, 1) * along_y[:, axis], out=grid[:, axis])
    if inside is not None:  # as `padding_mode` does at the ends of the images proper
        last = ((inside * 2 - 1) * (to_unit / 2) - 1).view(-1, 2, 1, 1)
        grid = torch.minimum(grid, last)
    places = grid.permute(0, 2, 3, 1)
    sampled = F.grid_sample(
        images, places, mode="bilinear", padding_mode="border", align_corners=False
    )
    return box_means(sampled, per_pixel)


def sample_padded(
    images: Tensor, inside: Tensor, matrices: np.ndarray, size: tuple[int, int], per_pixel: int
) -> Tensor:
    """Sample images of different sizes at once, as `sample` does those of one size off the CPU.

    Args:
        images: (B, C, H, W) float, each padded at its right and bottom.
        inside: (B, 2) float, width and height of each before.
        matrices, size, per_pixel: as `sample` takes them.
    """
    return _sample_grid(images, torch.from_numpy(matrices), size, per_pixel, None, inside)


def align(images: Tensor, matrices: np.ndarray, size: int) -> Tensor:
    """Return the aligned faces of a batch of images of one size.

    Args:
        images: (B, C, H, W) float.
        matrices: (B, 2, 3) from `similarity`; they must need the same supersampling.
        size: side S of the canonical frame, in pixels.

    Returns:
        (B, C, S, S) float.
    """
    per_pixel = supersampling(scale(matrices[0], size))
    return sample(images, torch.from_numpy(matrices), (size, size), per_pixel)


def align_image(image: np.ndarray, points: np.ndarray, size: int) -> Tensor:
    """Return the aligned face of one image.

    Args:
        image: (H, W) grey or (H, W, 3) RGB uint8.
        points: (5 or more, 2) pixel coordinates; the first five in the order of `TEMPLATE`.
        size: side S of the canonical frame, in pixels.

    Returns:
        (3, S, S) float in [0, 255]; a grey face has three equal channels.
    """
    small, matrix = reduce(image, similarity(points[None, :5].astype(np.float64))[0], size)
    return align(stack([small]).float(), matrix[None], size)[0].expand(3, -1, -1)
