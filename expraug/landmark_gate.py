"""Do the landmarks of a synthetic face agree with the expression that was asked for?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
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

LEAST_RISE = 0.5
SURE = 0.0
_REMEMBERED = 256


class LandmarkGate:
    """Rejects a face whose landmarks do not show a move towards the target.

    A linear classifier tells from MediaPipe's blendshape scores, of the source and of the
    synthetic, how much likelier the target has become. It sees shapes alone, so a change of light
    in the wrong place, as on a tilted face taken for an upright one, does not convince it.

    Its scores are "landmarks_rise", the rise of the target's log odds, and "landmarks_target", the
    log odds in the synthetic. Both are -inf where no landmarks are found in the synthetic; the rise
    is inf where none are found in the source, and both are for a target that it does not know.

    Args:
        classifier: None takes the embedded one.
        least_rise: of the log odds; a lower one is rejected,
        sure: unless the log odds in the synthetic are at least so high.
    """

    def __init__(
        self,
        classifier: LandmarkClassifier | None = None,
        *,
        least_rise: float = LEAST_RISE,
        sure: float = SURE,
    ) -> None:
        self.classifier = classifier or load_landmark_classifier()
        self.least_rise, self.sure = least_rise, sure
        self._detector = LandmarkDetector("crop")
        self._recent: OrderedDict[bytes, DetectedFace | None] = OrderedDict()
        weights = self.classifier.weight.numpy().tobytes() + self.classifier.bias.numpy().tobytes()
        self.fingerprint = f"landmarks-{xxhash.xxh3_64_hexdigest(weights)[:8]}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_recent": OrderedDict()}

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        pairs = [
            self._score(*pair)
            for pair in zip(_arrays(faces), _arrays(synthetic), target.tolist(), strict=True)
        ]
        rise, after = torch.tensor(pairs, dtype=torch.float32).view(-1, 2).unbind(1)
        return {"landmarks_rise": rise, "landmarks_target": after}

    def _score(self, source: np.ndarray, synthetic: np.ndarray, target: int) -> tuple[float, float]:
        expression = Expression(target)
        if expression not in self.classifier.expressions:
            return np.inf, np.inf
        (seen,) = self._detector([synthetic])
        after = self._log_odds(seen, expression)
        if after is None:
            return -np.inf, -np.inf
        before = self._log_odds(self._find_source(source), expression)
        return np.inf if before is None else after - before, after

    def _log_odds(self, face: DetectedFace | None, target: Expression) -> float | None:
        if face is None or face.blendshapes is None:
            return None
        return float(self.classifier.log_odds(torch.from_numpy(face.blendshapes)[None], target))

    def _find_source(self, image: np.ndarray) -> DetectedFace | None:
        """Find the landmarks of a source, which is seen again with its other requests."""
        digest = xxhash.xxh3_128_digest(image.tobytes())
        if digest not in self._recent:
            (self._recent[digest],) = self._detector([image])
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return self._recent[digest]

    def rejection(self, scores: Mapping[str, float]) -> str:
        agrees = (
            scores["landmarks_rise"] >= self.least_rise or scores["landmarks_target"] >= self.sure
        )
        return "" if agrees else "landmarks_disagree"


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
