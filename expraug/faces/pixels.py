"""Images as the pipeline works on them: arrays on the host, or tensors on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Pixels: TypeAlias = "np.ndarray | Tensor"
"""An image: (H, W) or (H, W, 3) uint8 array, or (1 or 3, H, W) uint8 tensor on any device."""


def sides(image: Pixels) -> tuple[int, int]:
    """Return the height and width of an image."""
    height, width = image.shape[1:] if isinstance(image, Tensor) else image.shape[:2]
    return int(height), int(width)


def cut_out(image: Pixels, top: int, left: int, bottom: int, right: int) -> Pixels:
    """Return a box of an image, as a view."""
    if isinstance(image, Tensor):
        return image[:, top:bottom, left:right]
    return image[top:bottom, left:right]


def shrunk(image: Pixels, factor: int) -> Pixels:
    """Return an image of means of squares of pixels, `factor` a side; those at its ends are less.

    On the CPU arrays and tensors give the same bytes.
    """
    if not isinstance(image, Tensor):
        return np.array(Image.fromarray(image).reduce(factor))
    if image.device.type == "cpu":
        small = shrunk(as_array(image), factor)
        return torch.from_numpy(small.reshape(*small.shape[:2], -1)).permute(2, 0, 1)
    means = F.avg_pool2d(image[None].float(), factor, ceil_mode=True, count_include_pad=False)
    return means[0].add_(0.5).floor_().to(torch.uint8)


def as_array(image: Tensor) -> np.ndarray:
    """Return a (1 or 3, H, W) tensor as (H, W) or (H, W, 3), on the host."""
    array: np.ndarray = image.permute(1, 2, 0).cpu().numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array


def as_tensor(image: Pixels, device: torch.device) -> Tensor:
    """Return an image as (1 or 3, H, W) uint8 on a device, colours last in memory.

    On the CPU, an array that can be written to is not copied.
    """
    if isinstance(image, Tensor):
        # rounding may depend on the layout: all images have the one that arrays have
        rows = image.to(device).permute(1, 2, 0).contiguous()
    else:
        rows = torch.from_numpy(np.require(image, requirements=["C", "W"])).to(device)
        rows = rows if rows.ndim == 3 else rows.unsqueeze(2)
    return rows.permute(2, 0, 1)


def stack(images: Sequence[Pixels]) -> Tensor:
    """Return images of one kind and size as (B, 1 or 3, H, W) uint8, colours last in memory."""
    first = images[0]
    if not isinstance(first, Tensor):
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    planes = [image for image in images if isinstance(image, Tensor)]
    if len(first) == 1:
        return torch.stack([plane[0] for plane in planes]).unsqueeze(1)
    return torch.stack([plane.permute(1, 2, 0) for plane in planes]).permute(0, 3, 1, 2)


def uploaded(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Return uint8 arrays as tensors on a device, in one copy that the host need not wait for.

    Args:
        arrays: of any shapes.
        device: of the tensors; on the CPU they are copies.
    """
    if not arrays:
        return []
    flat = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]))
    if device.type == "cuda":
        flat = flat.pin_memory()
    flat = flat.to(device, non_blocking=device.type == "cuda")
    parts = torch.split(flat, [array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def on_device(images: Sequence[Pixels], device: torch.device) -> list[Pixels]:
    """Return images on a device, each moved once however often it comes.

    On the CPU arrays stay what they are.
    """
    if device.type == "cpu":
        return [im.to(device) if isinstance(im, Tensor) else im for im in images]
    known: dict[int, Tensor] = {}
    arrays: dict[int, np.ndarray] = {}
    for image in images:
        if isinstance(image, Tensor):
            if id(image) not in known:
                known[id(image)] = as_tensor(image, device)
        else:
            arrays[id(image)] = np.atleast_3d(image)
    for key, moved in zip(arrays, uploaded(list(arrays.values()), device), strict=True):
        known[key] = moved.permute(2, 0, 1)
    return [known[id(image)] for image in images]
