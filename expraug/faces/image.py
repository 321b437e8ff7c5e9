"""Reading images of every kind into the one form that the road uses: uint8 arrays."""

from __future__ import annotations

import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from expraug.errors import ImageTooLargeError, UnreadableImageError

MAX_PIXELS = 64_000_000
"""Default limit on width × height; a decompression bomb is refused before it is decoded."""

MAX_FILE_BYTES = 256 << 20
"""Default limit on the size of an image file; a larger one is refused before it is read."""

_OVERSHOOT = 1e-3
"""Floats may leave [0, 1] by this much: resizing overshoots a little."""

MIN_SIDE = 16
"""Images with a shorter side hold no face that could be worked on."""


def to_array(image: Image.Image, *, writable: bool = True) -> np.ndarray:
    """Return a PIL image as (H, W) grey or (H, W, 3) RGB uint8, upright.

    EXIF orientation is applied; palette, CMYK and other colour modes become RGB; alpha is dropped;
    16-bit and float grey are scaled to 8 bits (not clipped).

    Args:
        image: of any mode.
        writable: return a copy that may be changed; False saves a copy where it can.

    Raises:
        UnreadableImageError: the pixels cannot be decoded, or a side is under 16 pixels.
    """
    try:
        if _may_be_rotated(image):
            image = ImageOps.exif_transpose(image)
        if image.mode in ("L", "RGB"):
            array = np.array(image) if writable else np.asarray(image)
        elif image.mode in ("1", "LA", "La"):
            array = np.array(image.convert("L"))
        elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
            array = _to_8_bits(np.asarray(image))
        else:
            array = np.array(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise UnreadableImageError(f"pixels cannot be decoded: {error}") from error
    return _large_enough(array)


def _may_be_rotated(image: Image.Image) -> bool:
    """Say whether the image carries metadata that could turn it; parsing it is slow."""
    return not _ORIENTATION_KEYS.isdisjoint(image.info)


_ORIENTATION_KEYS = frozenset(("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"))
"""Where Pillow keeps the metadata of JPEG, TIFF, WebP and PNG that can hold an orientation."""


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit (or wider, or float) grey; the range is told from the type and the values."""
    top = float(values.max(initial=0))
    if values.dtype.kind == "f":
        full = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0
    else:
        full = 255.0 if top <= 255 else 65535.0
    return np.clip(values * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)


def read_image(
    source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_FILE_BYTES
) -> np.ndarray:
    """Decode a file, or the bytes of one, as `to_array` does.

    A `max_pixels` that is over Pillow's own limit raises that one too, for the whole process.

    Raises:
        UnreadableImageError: missing, empty, truncated, or no image.
        ImageTooLargeError: more than `max_pixels` or `max_bytes`; nothing was decoded.
    """
    name = "image" if isinstance(source, bytes) else str(source)
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)  # Pillow refuses beyond twice its limit
    try:
        size = len(source) if isinstance(source, bytes) else os.stat(source).st_size
        check_file_size(size, max_bytes, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit decides
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            image = Image.open(file, formats=_formats())
    except ImageTooLargeError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:  # its own message holds a memory address
        raise UnreadableImageError(f"{name}: not an image in a known format") from error
    except Exception as error:
        raise UnreadableImageError(f"{name}: not a readable image ({error})") from error
    with image:
        check_size(image.width, image.height, max_pixels, name)
        try:
            return to_array(image)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{name}: {error}") from error


@cache
def _formats() -> list[str]:
    """Return the formats that Pillow decodes by itself: for EPS it would run Ghostscript."""
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


def check_file_size(size: int, max_bytes: int = MAX_FILE_BYTES, name: str = "image") -> None:
    """Raise ImageTooLargeError if a file has more than `max_bytes`."""
    if size > max_bytes:
        raise ImageTooLargeError(
            f"{name}: {size} bytes are over the limit of {max_bytes}; raise max_bytes to allow it"
        )


def check_size(width: int, height: int, max_pixels: int = MAX_PIXELS, name: str = "image") -> None:
    """Raise ImageTooLargeError if an image has more than `max_pixels`."""
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{name}: {width}x{height} is over the limit of {max_pixels} pixels; "
            f"raise max_pixels to allow it"
        )


def as_array(image: Image.Image | np.ndarray | Tensor) -> np.ndarray:
    """Return what a data set may give as an image in the form of `to_array`.

    Args:
        image: PIL image; (H, W) or (H, W, 1 or 3) array or (1 or 3, H, W) tensor, uint8 or float
            in [0, 1].

    Raises:
        ValueError: an array or tensor of another shape or type, or floats that are not finite or
            outside [0, 1].
        UnreadableImageError: as `to_array`.
    """
    if isinstance(image, Image.Image):
        return to_array(image, writable=False)  # the road copies what it changes
    if isinstance(image, Tensor):
        values = image.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # bfloat16 too
        array = (values.permute(1, 2, 0) if image.ndim == 3 else values).numpy()
    else:
        array = np.asarray(image)
    if array.dtype.kind == "f":
        _check_range(array)
        array = np.clip(np.rint(array * 255), 0, 255).astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.shape[2:] == (3,)):
        raise ValueError(
            f"an image must be grey or RGB, uint8 or float in [0, 1]; got {type(image).__name__} "
            f"of {image.dtype}, shape {tuple(image.shape)}"
        )
    return _large_enough(array)


def _check_range(values: np.ndarray) -> None:
    """Raise ValueError unless floats are in [0, 1], but for what resizing overshoots."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # also where one is NaN
        raise ValueError(
            f"a float image must be finite and in [0, 1], not [{low:.3g}, {high:.3g}]: change the "
            f"expression before Normalize, and divide values up to 255 by 255"
        )


def _large_enough(array: np.ndarray) -> np.ndarray:
    height, width = array.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UnreadableImageError(
            f"image is {width}x{height}, too small to hold a face: under {MIN_SIDE} pixels a side"
        )
    return array


def like(array: np.ndarray, image: Image.Image) -> Image.Image:
    """Return a changed array as the kind of PIL image that `to_array` made it from.

    Orientation tag, alpha and other metadata are those of `image`; modes other than grey, RGB and
    RGBA come back as RGB.
    """
    made = Image.fromarray(array)
    if _may_be_rotated(image):
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in _UNDO_ORIENTATION:
            made = made.transpose(_UNDO_ORIENTATION[orientation])
    if image.mode in ("RGBA", "LA"):
        made.putalpha(image.getchannel("A"))
    made.info = dict(image.info)
    return made


_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns an upright image back into the one whose EXIF orientation says the key."""


def as_given(made: np.ndarray, source: np.ndarray, image: Image.Image | np.ndarray | Tensor) -> Any:
    """Return a changed array in the form of the image that `as_array` made `source` from.

    Floats keep what 8 bits cannot hold: the change is added to the original values.
    """
    if isinstance(image, Image.Image):
        return like(made, image)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8:
            return made.reshape(image.shape)
        change = (made.astype(image.dtype) - source).reshape(image.shape)
        return image + change / image.dtype.type(255)
    return _tensor_like(made, source, image)


def _tensor_like(made: np.ndarray, source: np.ndarray, image: Tensor) -> Tensor:
    change = torch.from_numpy(made.astype(np.int16) - source)
    change = change.permute(2, 0, 1) if change.ndim == 3 else change.reshape(image.shape)
    change = change.to(image.device)
    if image.is_floating_point():
        result = image.as_subclass(Tensor) + change.to(image.dtype) / 255
    else:
        result = (image.as_subclass(Tensor) + change).to(torch.uint8)
    if type(image) is Tensor:
        return result
    from torchvision import tv_tensors  # seconds to import, and whoever has such a tensor has it

    return tv_tensors.wrap(result, like=image) if isinstance(image, tv_tensors.TVTensor) else result
