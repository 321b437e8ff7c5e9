"""The gate: is a synthetic face good enough to train on?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from expraug.faces.identity import (
    IdentityEncoder,
    create_identity_encoder,
    identity_encoder_class,
)


class Gate(Protocol):
    """Scores synthetic faces when they are made; judges the scores when they are used.

    Scores are stored with the face, so another threshold needs no new synthesis.
    """

    fingerprint: str
    """Part of the cache key: what the stored scores were computed with."""

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return scores by name, each (B,), of aligned sources and synthetics (B, 3, S, S)."""
        ...

    def verdict(self, scores: Mapping[str, float]) -> str:
        """Return "" if the face may be used, else the reason why not."""
        ...


class IdentityGate:
    """Rejects a face that is no longer the same person.

    Args:
        encoder: an `IdentityEncoder`, or what `create_identity_encoder` takes; the latter is
            created at first use, so that readers of a warm cache never load it.
        threshold: least cosine between source and synthetic; None takes the encoder's own (1 % of
            pairs of different people lie above it).
    """

    def __init__(
        self, encoder: IdentityEncoder | str | None = None, threshold: float | None = None
    ) -> None:
        self._by_name = encoder is None or isinstance(encoder, str)
        self._name = encoder if isinstance(encoder, str) else None
        self._encoder: IdentityEncoder | None = None
        if encoder is not None and not isinstance(encoder, str):
            self._encoder = encoder
        described = self._encoder or identity_encoder_class(self._name)
        self.threshold = described.threshold if threshold is None else threshold
        self.fingerprint = f"identity-{described.name}"

    def __getstate__(self) -> dict[str, Any]:
        # a worker that needs the encoder loads its own, where it knows how
        return self.__dict__ | ({"_encoder": None} if self._by_name else {})

    @property
    def encoder(self) -> IdentityEncoder:
        """The encoder; raises MissingWeightsError if its weights cannot be had."""
        if self._encoder is None:
            self._encoder = create_identity_encoder(self._name)
        return self._encoder

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        if isinstance(self.encoder, torch.nn.Module):
            self.encoder.to(faces.device)
        return {"identity": (self.encoder(faces) * self.encoder(synthetic)).sum(dim=1)}

    def verdict(self, scores: Mapping[str, float]) -> str:
        return "" if scores["identity"] >= self.threshold else "identity_lost"
