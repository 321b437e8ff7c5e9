"""Images of every kind into the one form that the pipeline uses, uint8 arrays, and back."""

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

from expraug.errors import ImageTooLargeError, RejectedError, UnreadableImageError

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
    16-bit and float grey are scaled to 8 bits (not clipped), whether 1, 255 or 65535 is white.

    Args:
        image: of any mode.
        writable: return a copy that may be changed; False saves a copy where it can.

    Raises:
        UnreadableImageError: the pixels cannot be decoded, or are floats of which the range tells
            no brightness (negative, over 65535, NaN); or a side is under 16 pixels.
    """
    try:
        if _may_be_rotated(image):
            image = ImageOps.exif_transpose(image)
        if image.mode in ("L", "RGB"):
            array = np.array(image) if writable else np.asarray(image)
        elif image.mode in ("1", "LA", "La"):
            image = image.convert("LA") if image.mode == "La" else image
            array = np.array(image.convert("L"))
        elif _is_deep(image):
            values = np.asarray(image)
            array = np.clip(values * (255.0 / _white(values)) + 0.5, 0, 255).astype(np.uint8)
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


def _is_deep(image: Image.Image) -> bool:
    """Say whether the image is grey with more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _white(values: np.ndarray) -> float:
    """Return the value that means white in 16-bit, wider or float grey, told from the values."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= 0 and high <= 65535):  # also where one is NaN
        raise ValueError(f"grey values must be in [0, 65535], not [{low:.3g}, {high:.3g}]")
    if values.dtype.kind == "f" and high <= 1:
        return 1.0
    return 255.0 if high <= 255 else 65535.0


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
        return to_array(image, writable=False)  # the pipeline copies what it changes
    if isinstance(image, Tensor):
        values = image.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # bfloat16 too
        array = (values.permute(1, 2, 0) if image.ndim == 3 else values).numpy()
    else:
        array = np.asarray(image)
    if array.dtype.kind == "f":
        _check_range(float(array.min(initial=0)), float(array.max(initial=0)))
        array = np.clip(np.rint(array * 255), 0, 255).astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.shape[2:] == (3,)):
        raise ValueError(
            f"an image must be grey or RGB, uint8 or float in [0, 1]: a PIL image, an (H, W) or "
            f"(H, W, 1 or 3) array, or a (1 or 3, H, W) tensor; got {type(image).__name__} of "
            f"{array.dtype}, shape {tuple(getattr(image, 'shape', array.shape))}"
        )
    return _large_enough(array)


def _check_range(low: float, high: float) -> None:
    """Raise ValueError unless floats are in [0, 1], but for what resizing overshoots."""
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # also where one is NaN
        raise ValueError(
            f"a float image must be finite and in [0, 1], not [{low:.3g}, {high:.3g}]: change the "
            f"expression before Normalize, and divide values up to 255 by 255"
        )


def _large_enough(array: np.ndarray) -> np.ndarray:
    _check_sides(*array.shape[:2])
    return array


def _check_sides(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise UnreadableImageError(
            f"image is {width}x{height}, too small to hold a face: under {MIN_SIDE} pixels a side"
        )


def like(made: np.ndarray, source: np.ndarray, image: Image.Image) -> Image.Image:
    """Return a changed array as the kind of PIL image that `to_array` made `source` from.

    Mode, palette, alpha, orientation tag and other metadata are those of `image`; so are, in modes
    other than grey and RGB, all pixels in which `made` equals `source`.

    Raises:
        RejectedError: the mode cannot hold the change (1-bit, or a palette without such colours);
            its `reason` is "image_mode".
    """
    check_mode(image)
    if _may_be_rotated(image):
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        turn = _UNDO_ORIENTATION.get(orientation)
        if turn is not None:
            pair = (Image.fromarray(array).transpose(turn) for array in (made, source))
            made, source = map(np.asarray, pair)
    if image.mode in ("L", "RGB"):
        back = Image.fromarray(made)
    elif image.mode in ("LA", "RGBA"):
        back = Image.fromarray(made)
        back.putalpha(image.getchannel("A"))
    else:
        back = _in_mode(made, source, image)
    back.info = dict(image.info)
    return back


def _in_mode(made: np.ndarray, source: np.ndarray, image: Image.Image) -> Image.Image:
    """Return an image of a rarer mode, changed where `made` differs from `source`."""
    if _is_deep(image):
        values = np.asarray(image)
        change = (made.astype(np.float64) - source) * (_white(values) / 255)
        changed = np.clip(values + change, 0, _white(values))
        changed = changed if values.dtype.kind == "f" else np.rint(changed)
        stored = np.where(change == 0, values, changed).astype(values.dtype)
        return Image.frombytes(image.mode, image.size, stored.tobytes())
    different = made != source
    different = different.any(axis=2) if different.ndim == 3 else different
    new = Image.fromarray(made)
    if image.mode in ("P", "PA"):
        stored = np.array(image)
        indices = stored if image.mode == "P" else stored[:, :, 0]
        palette = Image.new("P", (1, 1))
        palette.putpalette(image.getpalette("RGB") or [])
        nearest = np.asarray(new.quantize(palette=palette, dither=Image.Dither.NONE))
        indices[different] = nearest[different]
        # what the palette shows of it must be nearer to the new picture than to the old one
        colours = np.asarray(palette.getpalette(), np.int16).reshape(-1, 3)
        wanted, before = (_rgb(array)[different].astype(np.int16) for array in (made, source))
        lost = np.abs(colours[indices[different]] - wanted).sum()
        if 2 * lost > np.abs(wanted - before).sum():
            raise _without_room(image)
        new = Image.frombytes(image.mode, image.size, stored.tobytes())
    elif image.mode in ("La", "RGBa"):
        new.putalpha(image.convert(image.mode.upper()).getchannel("A"))
        new = new.convert(image.mode)
    else:
        new = new.convert(image.mode)
    back = image.copy()
    back.paste(new, mask=Image.fromarray(different))
    return back


def check_mode(image: Any) -> None:
    """Raise RejectedError, as `like` would, for a PIL image that can hold no other expression."""
    if isinstance(image, Image.Image) and image.mode == "1":
        raise _without_room(image)


def _rgb(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2)


def _without_room(image: Image.Image) -> RejectedError:
    error = RejectedError(
        f"a PIL image of mode {image.mode!r} cannot hold another expression: convert it to 'L' or "
        f"'RGB' before"
    )
    error.reason = "image_mode"
    return error


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

    Floats keep what 8 bits cannot hold: the change is added to the original values, and what
    leaves [0, 1] by it is clipped. Arrays are writable.

    Raises:
        RejectedError: as `like` does.
    """
    if isinstance(image, Image.Image):
        return like(made, source, image)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8:
            return np.require(made.reshape(image.shape), requirements=["C", "W"])
        change = (made.astype(image.dtype) - source).reshape(image.shape)
        changed = np.clip(image + change / image.dtype.type(255), 0, 1)
        return np.where(change == 0, image, changed)
    return _tensor_like(made, source, image)


def _tensor_like(made: np.ndarray, source: np.ndarray, image: Tensor) -> Tensor:
    change = torch.from_numpy(made.astype(np.int16) - source)
    change = change.permute(2, 0, 1) if change.ndim == 3 else change.reshape(image.shape)
    result = _with_change(image.as_subclass(Tensor), change.to(image.device))
    if type(image) is Tensor:
        return result
    from torchvision import tv_tensors  # seconds to import, and whoever has such a tensor has it

    return tv_tensors.wrap(result, like=image) if isinstance(image, tv_tensors.TVTensor) else result


def _with_change(images: Tensor, change: Tensor) -> Tensor:
    """Return uint8 or float tensors with an int16 change in [-255, 255] added to them."""
    if not images.is_floating_point():
        return (images + change).to(torch.uint8)
    changed = (images + change.to(images.dtype) / 255).clamp(0, 1)
    return torch.where(change == 0, images, changed)


def batch_pixels(images: Tensor) -> Tensor:
    """Return a batch as `as_array` does its images, but where it is.

    Args:
        images: (B, 1 or 3, H, W), uint8 or float in [0, 1]; B at least 1.

    Returns:
        (B, 1 or 3, H, W) uint8 on the same device, colours last in memory.

    Raises:
        ValueError, UnreadableImageError: as `as_array` does.
    """
    values = images.detach()
    if values.is_floating_point():
        values = values.float()
        low, high = torch.stack(values.aminmax()).tolist()
        _check_range(low, high)
        values = (values * 255).round_().clamp_(0, 255).to(torch.uint8)
    if values.dtype != torch.uint8 or values.ndim != 4 or values.shape[1] not in (1, 3):
        raise ValueError(
            f"a batch of images must be (B, 1 or 3, H, W), grey or RGB, uint8 or float in [0, 1]; "
            f"got {images.dtype}, shape {tuple(images.shape)}"
        )
    _check_sides(*values.shape[2:])
    return values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def batch_as_given(made: Tensor, source: Tensor, images: Tensor) -> Tensor:
    """Return a changed batch in the form of the one that `batch_pixels` made `source` from."""
    return _with_change(images, made.to(torch.int16) - source)
