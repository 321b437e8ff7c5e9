"""What all measures of one evaluation share: real faces, the pipeline, and what came out of it.

Synthetic faces are what users get: an `ExpressionAugmenter` makes them of the original images, and
only then are they aligned, by the points found in the source, at one size for all synthesizers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from expraug.errors import ExpraugError
from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.distribution import Distribution
from expraug.evaluate.face_set import SIZE, FaceSet, aligned
from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERClassifier
from expraug.networks.identity import IdentityEncoder
from expraug.pipeline import ExpressionAugmenter, Outcome, SynthesisRequest
from expraug.progress import Progress, silent

STOPPED = "stopped before it was measured"
_STRIDE = 37
"""From the variant of one source to that of the next: neighbours in a set are often one person."""
MIN_REAL = 10
"""Of fewer real faces of a class a figure says too little: the reference set stands in."""
Found = TypeVar("Found")


@dataclass(frozen=True)
class Sources:
    """The faces of which a target is made.

    Args:
        indices: (N,) long, in the data.
        shown: what they show, as "neutral" or "happy, sad".
    """

    indices: Tensor
    shown: str

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Synthetics:
    """What the pipeline made of N sources.

    Args:
        sources: (N,) long, their indices in the data.
        faces: (N, 3, S, S) uint8, aligned by the points of the sources. Where nothing could be
            made it is the source, as users get it.
        made: (N,) bool, whether it was made.
        reasons: why it was not, N times; "" where it was.
    """

    sources: Tensor
    faces: Tensor
    made: Tensor
    reasons: tuple[str, ...]

    @property
    def made_of(self) -> Tensor:
        """(M,) long, the indices in the data of the sources of which something was made."""
        return self.sources[self.made]

    @property
    def made_faces(self) -> Tensor:
        """(M, 3, S, S) uint8, what was made of these."""
        return self.faces[self.made]


@dataclass
class Context:
    """One synthesizer, real faces of people it has not seen, and what to measure them with.

    Args:
        augmenter: the pipeline. It has neither gate nor check of landmarks, so that nothing is
            hidden, and no cache; its detector remembers what it found (`MemoizedDetector`), as the
            data came through it too.
        data: the faces of which synthetics are made, and with whose classes they are compared.
        reference: further real faces, which stand in for classes that the data has too few of.
        classifiers: say which expression a face shows, at least one.
        identity: says whether two faces are one person, or why there is no such encoder.
        further_identity: other identity encoders, by which the first is checked.
        targets: expressions to measure, those without sources left out.
        bootstrap: on the people of data and reference.
        intensities: at which the rise of an expression is followed.
        subgroups: images of kinds to report by themselves, as `read_subgroups` returns them.
        progress: see `Progress`.
        distributions: figures of single faces, for the report; measures add to it.
        refused: why the landmark gate refuses what was made, by index of the source and target.
        skipped: what could not be measured, and why; measures add to it.
        stopped: whether the user has stopped the evaluation.
        total: units of work in all, about; see `advance`.
    """

    augmenter: ExpressionAugmenter
    data: FaceSet
    reference: FaceSet | None
    classifiers: tuple[FERClassifier, ...]
    identity: IdentityEncoder | ExpraugError
    targets: tuple[Expression, ...]
    bootstrap: Bootstrap
    intensities: tuple[float, ...] = (0.0, 0.5, 1.0)
    further_identity: tuple[IdentityEncoder, ...] = ()
    subgroups: Mapping[str, set[str]] = field(default_factory=dict)
    progress: Progress = silent
    distributions: list[Distribution] = field(default_factory=list)
    refused: dict[tuple[int, Expression], str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    total: int = 0
    _done: int = 0
    _known: dict[Any, Any] = field(default_factory=dict)

    @property
    def classifier(self) -> FERClassifier:
        """The first classifier, whose features are compared."""
        return self.classifiers[0]

    @property
    def encoder(self) -> IdentityEncoder:
        """The first identity encoder; raises what kept it from being loaded."""
        if isinstance(self.identity, ExpraugError):
            raise self.identity
        return self.identity

    @property
    def encoders(self) -> tuple[IdentityEncoder, ...]:
        """All identity encoders; raises what kept the only one from being loaded."""
        return (self.encoder, *self.further_identity)

    def real(self, target: Expression) -> FaceSet:
        """Return the set whose real faces of a class others are compared with."""
        other = self.reference
        if other is None or len(self.data.of(target)) >= MIN_REAL or not len(other.of(target)):
            return self.data
        return other

    def bystanders(self) -> FaceSet:
        """Return real faces among which synthetics might stand: those of the data."""
        return self.data

    # -- which faces to make a target of

    def sources(self, target: Expression) -> Sources:
        """Return the faces to make a target of.

        Neutral ones where they can be turned into it, as an expression that the source still shows
        could pass for the target; else those of every expression that can be turned into it.
        """
        accepted = self._accepted(target)
        if Expression.NEUTRAL in accepted and len(self.data.of(Expression.NEUTRAL)):
            accepted = [Expression.NEUTRAL]
        return self._of_any(accepted)

    def other_sources(self, target: Expression) -> Sources:
        """Return accepted faces that `sources` leaves out, evenly spread and no more than those."""
        first = self.sources(target)
        shown = first.shown.split(", ")
        others = self._of_any([e for e in self._accepted(target) if str(e) not in shown])
        if len(others) <= len(first):
            return others
        at = torch.linspace(0, len(others) - 1, len(first)).round().long()
        return Sources(others.indices[at], others.shown)

    def _accepted(self, target: Expression) -> list[Expression]:
        return [e for e in Expression if self.augmenter.synthesizer.supports(e, target)]

    def _of_any(self, expressions: list[Expression]) -> Sources:
        there = [e for e in expressions if len(self.data.of(e))]
        if not there:
            return Sources(torch.empty(0, dtype=torch.long), "")
        return Sources(torch.cat([self.data.of(e) for e in there]), ", ".join(map(str, there)))

    # -- making them

    def synthetics(
        self,
        target: Expression,
        intensity: float = 1.0,
        indices: Tensor | None = None,
        *,
        first_variant: bool = False,
        keep: bool = True,
    ) -> Synthetics:
        """Return what the pipeline makes of some faces, aligned.

        Args:
            target: expression asked for.
            intensity: in [0.01, 1], or 0, which is the source.
            indices: (N,) long, of the sources in the data; None takes `sources(target)`.
            first_variant: make of each the variant that fits it best, which is the most typical,
                instead of one of its own.
            keep: remember it for whoever asks again.
        """
        if indices is None:
            indices = self.sources(target).indices
        if intensity == 0:
            every = torch.ones(len(indices), dtype=torch.bool)
            return Synthetics(indices, self.data.faces[indices], every, ("",) * len(indices))
        key = self._key(target, intensity, indices, first_variant)
        if key in self._known:
            found: Synthetics = self._known[key]
            return found
        faces = self.data.faces[indices]
        reasons = []
        request = SynthesisRequest(target, intensity)
        for i, (image, outcome) in enumerate(self.outcomes(request, indices, first_variant)):
            reasons.append(outcome.reason)
            if outcome.target is not None:
                faces[i] = self.align(image, outcome.image)
        made = torch.tensor([not reason for reason in reasons], dtype=torch.bool)
        found = Synthetics(indices, faces, made, tuple(reasons))
        if keep:
            self._known[key] = found
        return found

    def made_already(self, target: Expression) -> Synthetics | None:
        """Return what `synthetics(target)` does if it is known, without making anything."""
        return self._known.get(self._key(target, 1.0, self.sources(target).indices, False))

    @staticmethod
    def _key(target: Expression, intensity: float, indices: Tensor, first_variant: bool) -> Any:
        return "synthetics", target, round(intensity * 100), first_variant, tuple(indices.tolist())

    def outcomes(
        self, request: SynthesisRequest, indices: Tensor, first_variant: bool = False
    ) -> Iterator[tuple[np.ndarray, Outcome]]:
        """Send original images through the pipeline, and yield each with what became of it.

        Each is asked for a variant of its own, as the doors sample them: the variant that fits best
        is not what users train on. The request's is the first one's, or, with `first_variant`,
        everyone's.
        """
        step = f"making {request.target}, intensity {request.intensity:g}"
        stride = 0 if first_variant else _STRIDE
        for part in indices.split(self.augmenter.batch_size):
            images = [self.data.items[i].read() for i in part.tolist()]
            asked = [
                replace(request, variant=(request.variant + stride * i) % self.augmenter.variants)
                for i in part.tolist()
            ]
            yield from zip(images, self.augmenter(images, asked), strict=True)
            self.advance(step, len(images))

    def align(self, source: np.ndarray, image: np.ndarray, size: int = SIZE) -> Tensor:
        """Return the face of an image, aligned by the points found in its source: (3, S, S) uint8.

        Args:
            source, image: (H, W) or (H, W, 3) uint8.
            size: S.
        """
        (face,) = self.augmenter.detect([source])
        assert face is not None  # sources without a face are not in the data
        return aligned(image, face.points, size)

    def failures(self) -> dict[str, Counter[str]]:
        """Return, by target, of how many sources nothing was made, by reason."""
        found = {t: Counter(filter(None, self.synthetics(t).reasons)) for t in self.targets}
        return {str(target): reasons for target, reasons in found.items()}

    # -- measuring

    def once(self, key: Any, make: Callable[[], Found]) -> Found:
        """Return what `make` returned when it was first called under this key."""
        if key not in self._known:
            self._known[key] = make()
        found: Found = self._known[key]
        return found

    def by_target(
        self, name: str, measure: Callable[[Expression], Found | None]
    ) -> dict[str, Found]:
        """Measure one target after the other, and return what could be measured, by target.

        A target that cannot be measured is listed in `skipped`; when the user stops, the targets
        measured so far are kept.

        Args:
            name: of the measure.
            measure: of one target; None says nothing about it.
        """
        found: dict[str, Found] = {}
        for target in self.targets:
            try:
                of_target = measure(target)
            except ExpraugError as error:
                self.skipped[f"{name}, {target}"] = str(error)
            except KeyboardInterrupt:
                self.stopped = True
                self.skipped[f"{name}, {target} and what follows"] = STOPPED
                break
            else:
                if of_target is not None:
                    found[str(target)] = of_target
        return found

    def advance(self, step: str, units: int = 0) -> None:
        """Tell of progress.

        Args:
            step: what is being done.
            units: of work that was done; making one face is one.
        """
        self._done += units
        self.progress(step, self._done, max(self.total, self._done))
