"""Where cache keys come from: what decides on the bytes of a synthetic face."""

from __future__ import annotations

from dataclasses import dataclass

from expraug.cache import entry_key
from expraug.pipeline.requests import SynthesisRequest
from expraug.pipeline.synthesize import COMPOSITING_VERSION


@dataclass(frozen=True)
class Fingerprint:
    """What decides on the bytes of a synthetic face besides image and request.

    As text it is part of every cache key. Nothing reads it back.

    Args:
        synthesizer, detector, gate: their own fingerprints.
        device: type of the device that it is made on ("cpu", "cuda", ...): rounding differs.
        compositing: `COMPOSITING_VERSION`.
    """

    synthesizer: str
    detector: str
    gate: str
    device: str
    compositing: int = COMPOSITING_VERSION

    def __str__(self) -> str:
        compositing = f"compositing-{self.compositing}"
        return "|".join((self.synthesizer, self.detector, self.gate, self.device, compositing))


def synthetic_key(digest: bytes, fingerprint: str, request: SynthesisRequest) -> bytes:
    """Return the key of one synthetic face.

    Args:
        digest: of the source image (`expraug.cache.image_digest`).
        fingerprint: the text of a `Fingerprint`.
        request: what was asked.
    """
    return entry_key(digest, fingerprint, int(request.target), request.percent, request.variant)
