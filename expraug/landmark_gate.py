"""Do the landmarks of a synthetic face agree with the expression that was asked for?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.detect import DetectedFace
from expraug.faces.landmarks import LandmarkDetector, missing_landmarks
from expraug.gate import AllGates, Gate
from expraug.networks.landmark_classifier import LandmarkClassifier, load_landmark_classifier

KEPT, LEAST_RISE = 0.5, 1.0
"""Chosen on validation people (`expraug/weights/landmark_classifier/README.md`)."""

_REMEMBERED = 256
_GONE = -99.0  # the rise where a synthetic face has no landmarks any more


class LandmarkGate:
    """Rejects a face whose landmarks still show what the source's did.

    A linear classifier reads MediaPipe's blendshape scores of source and synthetic. It sees shapes
    alone: a change of light in the wrong place, as on a tilted face taken for an upright one, does
    not convince it. Where it is sure of what the source shows, and finds that in the synthetic
    too, the target must have become much likelier.

    Its scores are "landmarks_kept", the probability of the source's likeliest expression (other
    than the target), the lower one of source and synthetic; and "landmarks_rise", by how much the
    log odds of the target rose. A face that loses its landmarks scores 1 and -99; one that has none
    to begin with, or a target that the classifier does not know, 0 and 0, and passes.

    Args:
        classifier: None takes the embedded one.
        kept: probability from which an expression counts as kept.
        least_rise: of the target's log odds, where one is kept.
    """

    def __init__(
        self,
        classifier: LandmarkClassifier | None = None,
        *,
        kept: float = KEPT,
        least_rise: float = LEAST_RISE,
    ) -> None:
        self._given = classifier
        self.kept, self.least_rise = kept, least_rise
        self._detector = LandmarkDetector("crop")
        self._recent: OrderedDict[bytes, DetectedFace | None] = OrderedDict()
        weights = self.classifier.weight.numpy().tobytes() + self.classifier.bias.numpy().tobytes()
        self.fingerprint = (
            f"landmarks-{xxhash.xxh3_64_hexdigest(weights)[:8]}-{self._detector.fingerprint}"
        )

    @property
    def classifier(self) -> LandmarkClassifier:
        """The classifier; the embedded one is loaded where it is needed."""
        return self._given or _embedded()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_recent": OrderedDict()}

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        triples = zip(_arrays(faces), _arrays(synthetic), target.tolist(), strict=True)
        found = torch.tensor([self._score(*triple) for triple in triples]).view(-1, 2)
        return {"landmarks_kept": found[:, 0], "landmarks_rise": found[:, 1]}

    def _score(self, source: np.ndarray, synthetic: np.ndarray, target: int) -> tuple[float, float]:
        expressions = self.classifier.expressions
        before = self._logits(self._find_source(source))
        if before is None or Expression(target) not in expressions:
            return 0.0, 0.0
        after = self._logits(self._detector([synthetic])[0])
        if after is None:
            return 1.0, _GONE
        column = expressions.index(Expression(target))
        others = [k for k in range(len(expressions)) if k != column]
        shown = others[int(before[others].argmax())]
        kept = min(float(logits.softmax(0)[shown]) for logits in (before, after))
        odds = [logits[column] - logits[others].logsumexp(0) for logits in (before, after)]
        return kept, float(odds[1] - odds[0])

    def _logits(self, face: DetectedFace | None) -> Tensor | None:
        if face is None or face.blendshapes is None:
            return None
        return self.classifier.logits(torch.from_numpy(face.blendshapes)[None])[0]

    def _find_source(self, image: np.ndarray) -> DetectedFace | None:
        """Find the landmarks of a source, which is seen again with its other requests."""
        digest = xxhash.xxh3_128_digest(image.tobytes())
        if digest not in self._recent:
            (self._recent[digest],) = self._detector([image])
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return self._recent[digest]

    def rejection(self, scores: Mapping[str, float]) -> str:
        stays = scores["landmarks_kept"] >= self.kept
        return "landmarks_disagree" if stays and scores["landmarks_rise"] < self.least_rise else ""


@cache
def _embedded() -> LandmarkClassifier:
    return load_landmark_classifier()


def with_landmark_check(gate: Gate | None, check: bool | None) -> Gate | None:
    """Return a gate that also checks landmarks.

    Args:
        gate: the caller's own, if any.
        check: None where landmarks can be had here; then the caller's own `LandmarkGate` counts.

    Raises:
        MissingDependencyError, MissingWeightsError: landmarks are asked for and cannot be had.
    """
    gates = gate.gates if isinstance(gate, AllGates) else (gate,) if gate is not None else ()
    if any(isinstance(g, LandmarkGate) for g in gates):
        return gate
    if check is None:
        check = not missing_landmarks()
    if not check:
        return gate
    return AllGates([*gates, LandmarkGate()]) if gates else LandmarkGate()


def _arrays(faces: Tensor) -> list[np.ndarray]:
    """Return aligned faces (B, 3, S, S) in [0, 1] as (S, S, 3) uint8 images."""
    pixels = faces.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    return [np.ascontiguousarray(image) for image in pixels.permute(0, 2, 3, 1).cpu().numpy()]
