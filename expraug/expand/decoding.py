"""Reading sources so that whatever is wrong with one becomes a reason."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from expraug.errors import ExpraugError, UnreadableImageError
from expraug.expand.plan import Job
from expraug.faces.image import MAX_FILE_BYTES, MAX_PIXELS, check_file_size


@dataclass(frozen=True)
class Decoded:
    """A job with its source's pixels; `reason` says why there are none, or nothing is asked."""

    job: Job
    image: np.ndarray | None
    digest: str | None
    reason: str
    message: str


def decode(job: Job, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_FILE_BYTES) -> Decoded:
    """Read a job's source. Whatever is wrong with the file becomes a reason."""
    file, image, digest = job.item.file, None, None
    reason, message = job.reason, job.message
    try:
        data = file if isinstance(file, bytes) else _contents(file, max_bytes)
        check_file_size(len(data), max_bytes)
        digest = hashlib.sha256(data).hexdigest()
        image = replace(job.item, file=data).read(max_pixels=max_pixels, max_bytes=max_bytes)
    except ExpraugError as error:
        reason, message = error.reason, str(error)
    except Exception as error:  # whatever a decoder, or a decoder's plug-in, raises on damage
        reason, message = UnreadableImageError.reason, f"{error!r}"
    if isinstance(file, Path):  # manifests travel; paths of this machine stay here
        message = message.replace(str(file), job.item.origin)
    return Decoded(job, image, digest, reason, message)


def _contents(path: Path, max_bytes: int) -> bytes:
    """Read a file once, for its digest and its pixels; nothing of one that is too large."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would block
        raise UnreadableImageError(f"{path}: not a file")
    check_file_size(status.st_size, max_bytes, str(path))
    return path.read_bytes()
