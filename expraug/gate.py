"""The gate: is a synthetic face good enough to train on?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.class_index import class_index
from expraug.networks.fer_classifier import FERClassifier, load_fer_classifier
from expraug.networks.identity import (
    IdentityEncoder,
    create_identity_encoder,
    identity_encoder_class,
)


class Gate(Protocol):
    """Scores synthetic faces when they are made; rejects by the scores when they are used.

    Scores are stored with the face, so another threshold needs no new synthesis.
    """

    fingerprint: str
    """Part of the cache key: what the stored scores were computed with."""

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return scores by name, each (B,) float.

        Args:
            faces, synthetic: aligned sources and what was made of them, (B, 3, S, S) in [0, 1].
            target: (B,) long, values of `Expression`.
        """
        ...

    def rejection(self, scores: Mapping[str, float]) -> str:
        """Return "" if a face with these scores may be used, else the reason why not."""
        ...


NOT_FINITE = "not_finite"
"""Reason of a face with values or scores that are NaN or infinite."""


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
        cosine = (self.encoder(faces) * self.encoder(synthetic)).sum(dim=1)
        return {"identity": _where_finite(cosine, faces, synthetic)}

    def rejection(self, scores: Mapping[str, float]) -> str:
        if not isfinite(scores["identity"]):
            return NOT_FINITE
        return "" if scores["identity"] >= self.threshold else "identity_lost"


class ExpressionGate:
    """Rejects a face in which a FER classifier does not see the target.

    The classifier should not have seen the source, nor the exemplar: it would recognise them. The
    embedded one has seen FER2013 and LFW. So for synthetics of these to train on, cut the training
    people into folds, and give the faces of each fold a gate whose classifier was trained on the
    other folds.

    Its scores are "expression", the probability of the target, and for each expression of the
    classifier "p_happy" and so on, from which soft labels can be made.

    Args:
        classifier: trained on real faces; None takes the embedded one, which is loaded at first
            use.
        threshold: least probability of the target, for all or by expression. As a classifier
            doubts real faces of a rare class too, `thresholds_of_real` says what is fair. A target
            without threshold, or that the classifier does not know, passes. None takes what 90 %
            of real faces reach where the classifier knows that (`FERNet.typical`), else 0.5.
    """

    def __init__(
        self,
        classifier: FERClassifier | None = None,
        threshold: float | Mapping[Expression, float] | None = None,
    ) -> None:
        classifier = load_fer_classifier() if classifier is None else classifier
        self.classifier = classifier
        if threshold is None:
            threshold = getattr(classifier, "typical", None) or 0.5
        self.thresholds = (
            dict(threshold)
            if isinstance(threshold, Mapping)
            else dict.fromkeys(classifier.expressions, threshold)
        )
        self.fingerprint = f"expression-{classifier.name}"

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        if isinstance(self.classifier, torch.nn.Module):
            self.classifier.to(synthetic.device)
        found = self.classifier.probabilities(synthetic)
        known = self.classifier.expressions
        column = class_index(known).to(target.device)[target].to(found.device)
        wanted = found.gather(1, column.clamp(min=0)[:, None])[:, 0]
        scores = {f"p_{e}": found[:, i] for i, e in enumerate(known)}
        scores["target"] = target.to(found)
        seen = torch.where(column >= 0, wanted, 1.0)
        scores["expression"] = _where_finite(seen, synthetic)
        return scores

    def rejection(self, scores: Mapping[str, float]) -> str:
        if not isfinite(scores["expression"]):
            return NOT_FINITE
        least = self.thresholds.get(Expression(int(scores["target"])), 0.0)
        return "" if scores["expression"] >= least else "expression_not_seen"


def thresholds_of_real(
    probabilities: Tensor, labels: Tensor, expressions: Sequence[Expression], share: float
) -> dict[Expression, float]:
    """Return thresholds that a share of the real faces of each expression would not reach.

    Args:
        probabilities: (N, E) of real faces that the classifier was not trained on.
        labels: (N,) long, values of `Expression`.
        expressions: E of them, in the order of the columns.
        share: in [0, 1); 0.3 rejects the synthetics that are seen less surely than 70 % of the
            real faces.
    """
    found = {}
    for column, expression in enumerate(expressions):
        own = probabilities[labels == int(expression), column]
        if len(own):
            found[expression] = float(own.float().quantile(share))
    return found


class AllGates:
    """Passes a face that every one of several gates passes, say identity and expression.

    Args:
        gates: asked in this order; the first that rejects gives the reason.
    """

    def __init__(self, gates: Sequence[Gate]) -> None:
        self.gates = tuple(gates)
        self.fingerprint = "+".join(gate.fingerprint for gate in self.gates)

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        scores: dict[str, Tensor] = {}
        for gate in self.gates:
            scores.update(gate.score(faces, synthetic, target))
        return scores

    def rejection(self, scores: Mapping[str, float]) -> str:
        return next((reason for gate in self.gates if (reason := gate.rejection(scores))), "")


GateLike = Gate | Literal["identity", "natural"] | None
"""A gate, or what `create_gate` makes one of."""


def create_gate(gate: GateLike) -> Gate | None:
    """Return a gate by its name.

    Args:
        gate: "identity", an `IdentityGate`; "natural", which also asks that the FER classifier sees
            the target as clearly as in nine of ten real faces of it; a `Gate`, or None, which are
            returned as they are. The pipeline adds its check of the landmarks to either, which also
            refuses what goes further than real faces.

    Raises:
        ValueError: no gate of that name.
    """
    if gate is None or not isinstance(gate, str):
        return gate
    if gate == "identity":
        return IdentityGate()
    if gate == "natural":
        return AllGates([IdentityGate(), ExpressionGate()])
    raise ValueError(f"gate must be 'identity', 'natural', None or a Gate, not {gate!r}")


def _where_finite(scores: Tensor, *faces: Tensor) -> Tensor:
    """Return (B,) scores, NaN where (B, …) faces hold a value that is not finite.

    A network may well give such a face a score: a maximum or a comparison drops NaN.
    """
    finite = torch.stack([f.isfinite().flatten(1).all(1) for f in faces]).all(0)
    return scores.masked_fill(~finite.to(scores.device), torch.nan)
