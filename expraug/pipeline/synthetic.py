"""A synthetic face where it was made, and its way to the host or back to the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from expraug.cache import CacheEntry, image_digest
from expraug.faces.pixels import Pixels, uploaded


@dataclass(frozen=True, slots=True, eq=False)
class Synthetic:
    """A synthetic face on the device that it was made on.

    Args:
        patch: uint8 (h, w, 1 or 3), the changed box of the image; None where there is no picture.
        origin, scores, reason: as of a `CacheEntry`.
    """

    patch: Tensor | None
    origin: tuple[int, int] = (0, 0)
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


Result: TypeAlias = "CacheEntry | Synthetic"
"""What the cache holds, or what was made now."""


class HostCopy:
    """Tensors of one device on their way to the host, beside what follows on the device.

    Args:
        tensors: any; those on the CPU are not copied.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._shapes = [tensor.shape for tensor in tensors]
        self._copied: torch.cuda.Event | None = None
        self._parts: list[Tensor] | None = None
        if not tensors or tensors[0].device.type == "cpu":
            self._parts = list(tensors)
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        # into pinned memory, where it does not block
        self._flat = flat.to("cpu", non_blocking=flat.is_cuda)
        if flat.is_cuda:
            self._copied = torch.cuda.current_stream(flat.device).record_event()

    def wait(self) -> list[np.ndarray]:
        """Return the tensors as arrays, once they are there; from any thread."""
        if self._copied is not None:
            self._copied.synchronize()
        if self._parts is None:
            parts = torch.split(self._flat, [shape.numel() for shape in self._shapes])
            self._parts = [p.view(shape) for p, shape in zip(parts, self._shapes, strict=True)]
        return [part.numpy() for part in self._parts]


class HostEntries:
    """What the cache keeps of synthetic faces, while their patches are on the way to the host."""

    def __init__(self, made: Sequence[Synthetic]) -> None:
        self._rest = [(m.patch is not None, m.origin, m.scores, m.reason) for m in made]
        self._patches = HostCopy([m.patch for m in made if m.patch is not None])

    def __call__(self) -> list[CacheEntry]:
        """Return the entries; waits for the patches."""
        patches = iter(self._patches.wait())
        return [
            CacheEntry(_without_grey_axis(next(patches)) if there else None, origin, scores, reason)
            for there, origin, scores, reason in self._rest
        ]


def _without_grey_axis(patch: np.ndarray) -> np.ndarray:
    return patch[..., 0] if patch.shape[-1] == 1 else patch


def digests_of(images: Sequence[Pixels]) -> list[bytes]:
    """Return the digests of images (`image_digest`), of equal pixels the same in either form.

    Of tensors on a device all pixels are copied to the host for this, once.
    """
    unique = {id(image): image for image in images}
    tensors = {k: im.permute(1, 2, 0) for k, im in unique.items() if isinstance(im, Tensor)}
    arrays = {k: image for k, image in unique.items() if isinstance(image, np.ndarray)}
    copied = HostCopy(list(tensors.values())).wait()
    arrays |= {k: _without_grey_axis(a) for k, a in zip(tensors, copied, strict=True)}
    known = {k: image_digest(array) for k, array in arrays.items()}
    return [known[id(image)] for image in images]


def batch_digests(images: Tensor) -> list[bytes]:
    """Return the digests of (B, C, H, W) uint8 images, as `digests_of` does, in one copy."""
    (copied,) = HostCopy([images.permute(0, 2, 3, 1).contiguous()]).wait()
    return [image_digest(_without_grey_axis(image)) for image in copied]


def beside(images: Sequence[Pixels], results: Sequence[Result | None]) -> list[Result | None]:
    """Return results with their patches where the images are, moved in one copy each way."""
    moved = list(results)
    up: list[tuple[int, CacheEntry, np.ndarray]] = []
    down: list[tuple[int, Synthetic]] = []
    for i, (image, result) in enumerate(zip(images, results, strict=True)):
        if result is None or result.patch is None:
            continue
        if isinstance(result, Synthetic):
            if isinstance(image, np.ndarray):
                down.append((i, result))
        elif isinstance(image, Tensor):
            up.append((i, result, result.patch))
    for (i, _), entry in zip(down, HostEntries([made for _, made in down])(), strict=True):
        moved[i] = entry
    if up:
        first = images[up[0][0]]
        assert isinstance(first, Tensor)
        patches = [np.atleast_3d(patch) for _, _, patch in up]
        for (i, entry, _), there in zip(up, uploaded(patches, first.device), strict=True):
            moved[i] = Synthetic(there, entry.origin, entry.scores, entry.reason)
    return moved


def with_patch(image: Pixels, result: Result) -> Pixels:
    """Return the image with a patch in its place; both are arrays or both are tensors."""
    patch = result.patch
    assert patch is not None
    (top, left), (height, width) = result.origin, patch.shape[:2]
    if isinstance(image, Tensor):
        assert isinstance(patch, Tensor)
        copied = image.clone()
        copied[:, top : top + height, left : left + width] = patch.permute(2, 0, 1)
        return copied
    assert isinstance(patch, np.ndarray)
    if (height, width) == image.shape[:2]:
        # a thread may still have to store it, and the image is the caller's to change
        return patch.copy() if patch.flags.writeable else patch
    changed = image.copy()
    changed[top : top + height, left : left + width] = patch
    return changed
