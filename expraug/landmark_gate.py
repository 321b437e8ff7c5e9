"""Do the landmarks of a synthetic face agree with the expression that was asked for?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expraug.faces.landmarks import SURE, LandmarkDetector, read_aligned
from expraug.gate import AllGates, Gate
from expraug.networks.class_index import class_index
from expraug.networks.landmark_classifier import LandmarkClassifier, load_landmark_classifier

KEPT, LEAST_RISE = 0.5, 1.0
"""Chosen on validation people (`expraug/weights/landmark_classifier/README.md`)."""

_EYES, _MOST_TILT = (33, 263), math.radians(10)  # outer corners; an aligned face's are level
_REMEMBERED = 256  # sources whose landmarks were read last, on the CPU, where each comes alone
_GONE = -99.0  # the rise where a synthetic face has no landmarks any more


class LandmarkGate:
    """Rejects a face whose landmarks still show what the source's did.

    A linear classifier reads the blendshape scores of source and synthetic. It sees shapes
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
        self._recent: dict[bytes, tuple[Tensor, Tensor]] = {}
        weights = self.classifier.weight.numpy().tobytes() + self.classifier.bias.numpy().tobytes()
        self.fingerprint = f"landmarks-{hashlib.sha256(weights).hexdigest()[:8]}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_recent": {}}  # a pickle tells settings, not what was seen

    @property
    def classifier(self) -> LandmarkClassifier:
        """The classifier; the embedded one is loaded where it is needed."""
        return self._given or _embedded()

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        before, there = self._read_sources(faces)
        after, still_there = self._read(synthetic)
        known = class_index(self.classifier.expressions).to(target.device)[target]
        column = known.clamp(min=0)[:, None]
        others = torch.ones_like(before, dtype=torch.bool).scatter(1, column, False)
        shown = before.masked_fill(~others, -torch.inf).argmax(1, keepdim=True)
        kept = torch.minimum(before.softmax(1).gather(1, shown), after.softmax(1).gather(1, shown))
        rise = _log_odds(after, column, others) - _log_odds(before, column, others)
        kept, rise = kept[:, 0], rise[:, 0]
        gone = ~still_there
        kept, rise = torch.where(gone, 1.0, kept), torch.where(gone, _GONE, rise)
        nothing = ~there | (known < 0)  # to compare with, or to say about it
        return {
            "landmarks_kept": torch.where(nothing, 0.0, kept),
            "landmarks_rise": torch.where(nothing, 0.0, rise),
        }

    def _read_sources(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Do as `_read`: an image comes with several requests, and its face is read once."""
        if faces.device.type != "cpu" or len(faces) != 1:
            sources, row = faces.flatten(1).unique(dim=0, return_inverse=True)
            logits, there = self._read(sources.view(-1, *faces.shape[1:]))
            return logits[row], there[row]
        pixels = faces.detach().contiguous().numpy()
        digest = hashlib.blake2b(pixels.data, digest_size=16).digest()
        known = self._recent.get(digest)
        if known is None:
            known = self._read(faces)
            while len(self._recent) >= _REMEMBERED:
                self._recent.pop(next(iter(self._recent)), None)
            self._recent[digest] = known
        return known

    def _read(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, E) logits of aligned faces, and (B,) whether there is a face at all."""
        scores, there = read_blendshapes(faces)
        return self.classifier.to(faces.device).logits(scores), there

    def rejection(self, scores: Mapping[str, float]) -> str:
        stays = scores["landmarks_kept"] >= self.kept
        return "landmarks_disagree" if stays and scores["landmarks_rise"] < self.least_rise else ""


def read_blendshapes(faces: Tensor) -> tuple[Tensor, Tensor]:
    """Read blendshape scores off aligned faces; where one is badly aligned, look for it.

    Args:
        faces: (B, 3, S, S) float in [0, 1], aligned.

    Returns:
        (B, 52) scores in [0, 1], and (B,) bool, whether there is a face; where not, the scores say
        nothing.
    """
    points, scores, sure = read_aligned(faces)
    # cloned, as what inference mode returns cannot be written to outside it
    scores, there = scores.clone(), sure.clone() >= SURE
    across = points[:, _EYES[1]] - points[:, _EYES[0]]
    tilted = torch.atan2(across[:, 1], across[:, 0]).abs() > _MOST_TILT
    lost = (~there | tilted).nonzero()[:, 0].tolist()
    if lost:
        found = _detector(str(faces.device))(_pixels(faces[lost]))
        for i, face in zip(lost, found, strict=True):
            if face is not None and face.blendshapes is not None:
                scores[i], there[i] = torch.as_tensor(face.blendshapes).to(scores), True
    return scores, there


@cache
def _detector(device: str) -> LandmarkDetector:
    return LandmarkDetector("crop", device)


def _pixels(faces: Tensor) -> list[np.ndarray]:
    """Return (S, S, 3) uint8 images of (B, 3, S, S) faces in [0, 1]."""
    whole = (faces.detach().nan_to_num() * 255).round().clamp(0, 255).to(torch.uint8)
    return list(whole.permute(0, 2, 3, 1).cpu().numpy())


@cache
def _embedded() -> LandmarkClassifier:
    return load_landmark_classifier()


def with_landmark_check(gate: Gate | None, check: bool) -> Gate | None:
    """Return a gate that also checks landmarks.

    Args:
        gate: the caller's own, if any.
        check: whether to; the caller's own `LandmarkGate` counts.
    """
    gates = gate.gates if isinstance(gate, AllGates) else (gate,) if gate is not None else ()
    if any(isinstance(g, LandmarkGate) for g in gates):
        return gate
    if not check:
        return gate
    return AllGates([*gates, LandmarkGate()]) if gates else LandmarkGate()


def _log_odds(logits: Tensor, column: Tensor, others: Tensor) -> Tensor:
    """Return (B, 1) log odds of a column against the others."""
    against = logits.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    return logits.gather(1, column) - against
