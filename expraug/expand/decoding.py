"""Reading sources so that whatever is wrong with one becomes a reason."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expraug.errors import ExpraugError, UnreadableImageError
from expraug.expand.plan import Job
from expraug.faces.image import MAX_FILE_BYTES, MAX_PIXELS, check_file_size


@dataclass(frozen=True)
class Decoded:
    """A job with its source's pixels; `reason` says why there are none, or nothing is drawn."""

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
        if isinstance(file, Path) and not file.is_file():  # a pipe would block, a link may dangle
            raise UnreadableImageError(f"{file}: not a file")
        size = len(file) if isinstance(file, bytes) else file.stat().st_size
        check_file_size(size, max_bytes, "image" if isinstance(file, bytes) else str(file))
        digest = _sha256(file)
        image = job.item.read(max_pixels=max_pixels, max_bytes=max_bytes)
    except ExpraugError as error:
        reason, message = error.reason, str(error)
    except Exception as error:  # whatever a decoder, or a decoder's plug-in, raises on damage
        reason, message = UnreadableImageError.reason, f"{file!s:.200}: {error!r}"
    if isinstance(file, Path):  # manifests travel; paths of this machine stay here
        message = message.replace(str(file), job.item.origin)
    return Decoded(job, image, digest, reason, message)


def _sha256(file: Path | bytes) -> str:
    if isinstance(file, bytes):
        return hashlib.sha256(file).hexdigest()
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
