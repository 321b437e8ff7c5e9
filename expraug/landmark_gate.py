"""Do the landmarks of a synthetic face agree with the expression that was asked for?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expraug.faces.read import read_face
from expraug.gate import AllGates, Gate
from expraug.networks.class_index import class_index
from expraug.networks.landmark_classifier import LandmarkClassifier, load_landmark_classifier

KEPT, LEAST_RISE = 0.6, 1.0
"""Chosen on validation people (`expraug/weights/landmark_classifier/README.md`)."""

MOST_BEYOND = 0.0
"""2.5 % of real faces go further."""

_REMEMBERED = 1024  # sources whose landmarks were read last, on the CPU
_GONE = -99.0  # the rise where a synthetic face has no landmarks any more


class _Read(NamedTuple):
    """What was read off B faces.

    Args:
        logits: (B, E).
        beyond: (B, E), how much further they go towards each expression than real faces.
        there: (B,) bool, whether there is a face at all.
    """

    logits: Tensor
    beyond: Tensor
    there: Tensor


class LandmarkGate:
    """Rejects a face whose landmarks still show what the source's did.

    A classifier reads the landmarks of source and synthetic. It sees shapes alone: a change of
    light in the wrong place, as on a tilted face taken for an upright one, does not convince it.
    Where it is sure of what the source shows, and finds that in the synthetic too, the target must
    have become much likelier.

    Nor may the landmarks go further towards the target than 97.5 % of real faces of it do.

    Its scores are "landmarks_kept", the probability of the source's likeliest expression (other
    than the target), the lower one of source and synthetic; "landmarks_rise", by how much the log
    odds of the target rose; and "landmarks_beyond", by how much the face goes further than real
    ones, where the distance between mean neutral face and mean face of the target is 1. A face that
    loses its landmarks scores 1, -99 and 0; one that has none to begin with, or a target that the
    classifier does not know, 0 each, and passes.

    Args:
        classifier: None takes the embedded one.
        kept: probability from which an expression counts as kept.
        least_rise: of the target's log odds, where one is kept.
        most_beyond: how much further than real faces a face may go.
    """

    def __init__(
        self,
        classifier: LandmarkClassifier | None = None,
        *,
        kept: float = KEPT,
        least_rise: float = LEAST_RISE,
        most_beyond: float = MOST_BEYOND,
    ) -> None:
        self._given = classifier
        self.kept, self.least_rise, self.most_beyond = kept, least_rise, most_beyond
        self._recent: dict[bytes, _Read] = {}
        weights = hashlib.sha256()
        for tensor in self.classifier.state_dict().values():
            weights.update(tensor.cpu().numpy().tobytes())
        self.fingerprint = f"landmarks-{weights.hexdigest()[:8]}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_recent": {}}  # a pickle tells settings, not what was seen

    @property
    def classifier(self) -> LandmarkClassifier:
        """The classifier; the embedded one is loaded where it is needed."""
        return self._given or _embedded()

    def score(self, faces: Tensor, synthetic: Tensor, target: Tensor) -> dict[str, Tensor]:
        source, read = self._read_sources(faces), self._read(synthetic)
        before, there = source.logits, source.there
        after, still_there = read.logits, read.there
        known = class_index(self.classifier.expressions).to(target.device)[target]
        column = known.clamp(min=0)[:, None]
        others = torch.ones_like(before, dtype=torch.bool).scatter(1, column, False)
        shown = before.masked_fill(~others, -torch.inf).argmax(1, keepdim=True)
        kept = torch.minimum(before.softmax(1).gather(1, shown), after.softmax(1).gather(1, shown))
        rise = _log_odds(after, column, others) - _log_odds(before, column, others)
        kept, rise = kept[:, 0], rise[:, 0]
        gone = ~still_there
        kept, rise = torch.where(gone, 1.0, kept), torch.where(gone, _GONE, rise)
        beyond = torch.where(gone, 0.0, read.beyond.gather(1, column)[:, 0])
        nothing = ~there | (known < 0)  # to compare with, or to say about it
        return {
            "landmarks_kept": torch.where(nothing, 0.0, kept),
            "landmarks_rise": torch.where(nothing, 0.0, rise),
            "landmarks_beyond": torch.where(nothing, 0.0, beyond),
        }

    def _read_sources(self, faces: Tensor) -> _Read:
        """Do as `_read`: on the CPU an image comes with several requests, and is read once."""
        # elsewhere, reading costs less than finding equal ones
        if faces.device.type != "cpu" or len(faces) == 0:
            return self._read(faces)
        pixels = faces.detach().contiguous().numpy()
        digests = [hashlib.blake2b(face.data, digest_size=16).digest() for face in pixels]
        known = {digest: read for digest in digests if (read := self._recent.get(digest))}
        new = {digest: row for row, digest in enumerate(digests) if digest not in known}
        if new:
            columns = self._read(faces[list(new.values())])
            rows = zip(*(column.split(1) for column in columns), strict=True)
            known |= {digest: _Read(*row) for digest, row in zip(new, rows, strict=True)}
            self._recent |= {digest: known[digest] for digest in new}
            while len(self._recent) > _REMEMBERED:
                self._recent.pop(next(iter(self._recent)), None)
        found = zip(*(known[digest] for digest in digests), strict=True)
        return _Read(*(torch.cat(column) for column in found))

    def _read(self, faces: Tensor) -> _Read:
        """Read aligned faces."""
        read, classifier = read_face(faces), self.classifier.to(faces.device)
        logits = classifier.logits(read.landmarks, read.scores)
        beyond = classifier.reach(read.landmarks, read.scores) - classifier.most
        return _Read(logits, beyond, read.there)

    def rejection(self, scores: Mapping[str, float]) -> str:
        stays = scores["landmarks_kept"] >= self.kept
        if stays and scores["landmarks_rise"] < self.least_rise:
            return "landmarks_disagree"
        return "exaggerated" if scores["landmarks_beyond"] > self.most_beyond else ""


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
