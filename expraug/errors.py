"""Every failure that expraug reports has a class of its own, under `ExpraugError`.

In bulk work (`warm`, `expand`) these are caught, counted by `reason` and listed; the work goes on.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence


class ExpraugError(Exception):
    """Base of all errors raised on purpose by expraug."""

    reason = "error"
    """Short code under which bulk work counts this failure."""


class LabelError(ExpraugError, ValueError):
    """A label that the label scheme does not hold, or a class that has no expression."""

    reason = "label_outside_scheme"


class AmbiguousLabelError(LabelError):
    """A soft label that does not say which expression the face shows."""

    reason = "ambiguous_label"


class UnsupportedExpressionError(ExpraugError, ValueError):
    """The synthesizer cannot make this expression, or not from this source."""

    reason = "unsupported_expression"


class UnreadableImageError(ExpraugError, OSError):
    """A file or array that is no image, or a damaged one."""

    reason = "unreadable_image"


class ImageTooLargeError(UnreadableImageError):
    """More pixels than the limit allows."""

    reason = "image_too_large"


class UnreadableVideoError(ExpraugError, OSError):
    """A file or folder that is no video, or a damaged one."""

    reason = "unreadable_video"


class NoFaceError(ExpraugError, ValueError):
    """The detector found no face."""

    reason = "no_face"


class RejectedError(ExpraugError, ValueError):
    """What was made may not be used; `reason` says why."""

    reason = "rejected"


class DeviceError(ExpraugError, ValueError):
    """There is no such device here."""

    reason = "device"


class MissingWeightsError(ExpraugError, FileNotFoundError):
    """Model weights that are neither embedded nor at the given place, or cannot be fetched."""

    reason = "missing_weights"


class InvalidWeightsError(MissingWeightsError):
    """Model weights that are there but cannot be used: damaged, or not what they should be."""

    reason = "invalid_weights"


class MissingDependencyError(ExpraugError, ImportError):
    """An optional package that this feature needs is not installed."""

    reason = "missing_dependency"


class CacheMissError(ExpraugError, LookupError):
    """A synthetic face that is not cached, where `on_miss="error"` or a worker may not make it."""

    reason = "cache_miss"


def failure(
    reason: str, scores: Mapping[str, float], what: str, shape: Sequence[int]
) -> NoFaceError | RejectedError:
    """Return the error for what could not be made of one image.

    Args:
        reason: as `Outcome.reason` has it.
        scores: of the gate.
        what: was asked for, as "the clip of happy".
        shape: of the image, (H, W, ...).
    """
    if reason == NoFaceError.reason:
        return NoFaceError(
            f"no face found in the {shape[1]}x{shape[0]} image; for images that are face crops "
            f"already, use alignment='crop'"
        )
    told = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    error = RejectedError(f"{what} cannot be used: {reason}" + (f" ({told})" if told else ""))
    error.reason = reason
    return error


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, pointing at the line outside expraug that called into it, however far away that is."""
    frame, level = sys._getframe(), 1
    while (
        frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "expraug"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
