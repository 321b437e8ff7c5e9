"""The road: image and label in, the same person with another expression and its label out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import get_worker_info

from expraug.cache import CacheEntry, SynthesisCache, entry_key, image_digest
from expraug.cached_locator import CachedLocator
from expraug.draw import Draw, Outcome
from expraug.errors import (
    CacheMissError,
    NoFaceError,
    RejectedError,
    UnsupportedExpressionError,
)
from expraug.expressions import Expression
from expraug.faces.locate import Location, Locator, create_locator
from expraug.faces.recall import RecallingLocator
from expraug.gate import Gate, IdentityGate
from expraug.policy import Policy, Uniform
from expraug.synthesis import PASTE_VERSION, synthesize, synthesize_clip
from expraug.synthesizer import AUTO, Synthesizer, create_synthesizer, resolve_name

if TYPE_CHECKING:
    from expraug.expressions import LabelScheme
    from expraug.warm import WarmReport

__all__ = ["Draw", "ExpressionAugmenter", "OnMiss", "Outcome"]

OnMiss = Literal["synthesize", "keep", "error"]


class ExpressionAugmenter:
    """Walks the road: policy, cache, alignment, synthesizer, paste-back, gate.

    Every front door calls it, and nothing else calls a synthesizer in production. It pickles
    small: a synthesizer given by name is loaded again where it is needed.

    Args:
        synthesizer: a name, folder or hub id, as `create_synthesizer` takes it, or a `Synthesizer`.
        policy: decides on targets; `Uniform()` if None.
        intensity: (low, high) in (0, 1].
        intensity_levels: number of evenly spaced intensities from low to high that are drawn.
        faces: "crop" (the images are face crops, as FER2013), "detect" (photographs), or a
            `Locator`. A synthesizer that needs landmarks gets them from a `LandmarkLocator` in
            either case.
        gate: None, "identity" (an `IdentityGate` on the default encoder), or a `Gate`.
        cache: folder of a `SynthesisCache`, or one; None keeps nothing.
        on_miss: what a face that is not cached means: "synthesize" it now, "keep" the source, or
            raise an "error".
        device: where the synthesizer runs.
        batch_size: faces a pass.

    Attributes:
        stats: counts of outcomes in this process: "made", "cached", and each reason.

    Raises:
        MissingWeightsError: no such synthesizer.
        ValueError: an argument out of range, or a locator without the landmarks that the
            synthesizer needs.
    """

    def __init__(
        self,
        synthesizer: str | Synthesizer = AUTO,
        *,
        policy: Policy | None = None,
        intensity: tuple[float, float] = (0.6, 1.0),
        intensity_levels: int = 3,
        faces: str | Locator = "crop",
        gate: Gate | Literal["identity"] | None = None,
        cache: SynthesisCache | str | Path | None = None,
        on_miss: OnMiss = "synthesize",
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ) -> None:
        low, high = intensity
        if not 0 < low <= high <= 1:
            raise ValueError(f"intensity must be 0 < low <= high <= 1, not {intensity}")
        if on_miss not in ("synthesize", "keep", "error"):
            raise ValueError(f"on_miss must be 'synthesize', 'keep' or 'error', not {on_miss!r}")
        if isinstance(gate, str) and gate != "identity":
            raise ValueError(f"gate must be 'identity', None or a Gate, not {gate!r}")
        self._name: str | None = None
        if isinstance(synthesizer, str):
            self._name = resolve_name(synthesizer)
            synthesizer = create_synthesizer(self._name)
        self._synthesizer: Synthesizer | None = synthesizer
        self.device = torch.device(device)
        self.policy: Policy = policy or Uniform()
        percents = np.rint(np.linspace(low, high, max(intensity_levels, 1)) * 100)
        self.levels = [int(level) for level in np.unique(percents)]
        landmarks = self.synthesizer.needs_landmarks
        self.locator = (
            create_locator(faces, device, landmarks=landmarks) if isinstance(faces, str) else faces
        )
        if landmarks and not getattr(self.locator, "landmarks", False):
            raise ValueError(
                f"{self.synthesizer.name!r} needs landmarks, which {type(self.locator).__name__} "
                f"does not find: use faces='crop', faces='detect' or a LandmarkLocator"
            )
        self.gate = IdentityGate() if isinstance(gate, str) else gate
        self.cache = SynthesisCache(cache) if isinstance(cache, (str, Path)) else cache
        self.on_miss = on_miss
        self.batch_size = batch_size
        self.stats: Counter[str] = Counter()
        self._targets: dict[tuple[Any, ...], list[tuple[Expression, float]]] = {}
        synthesizer_fingerprint = self.synthesizer.fingerprint
        gate_fingerprint = self.gate.fingerprint if self.gate else "no-gate"
        self.fingerprint = "|".join(
            (
                synthesizer_fingerprint,
                self.locator.fingerprint,
                gate_fingerprint,
                f"paste-{PASTE_VERSION}",
            )
        )
        if self.cache is not None and not self.cache.readonly:
            self.cache.register(self.fingerprint)
            if not self.locator.constant:
                self.cache.register(self.locator.fingerprint)

    def __getstate__(self) -> dict[str, Any]:
        # settings alone: `datasets` knows a computation by its pickle, which use must not change
        state = self.__dict__ | {"stats": Counter(), "_targets": {}}
        return state | ({"_synthesizer": None} if self._name is not None else {})

    @property
    def synthesizer(self) -> Synthesizer:
        """The synthesizer, loaded if this process does not have it yet."""
        if self._synthesizer is None:
            assert self._name is not None
            self._synthesizer = create_synthesizer(self._name)
        return self._synthesizer

    def available(self, source: Expression | None) -> list[Expression]:
        """Return the targets that the synthesizer can make of a face that shows `source`."""
        return [t for t in self.synthesizer.expressions if self.synthesizer.accepts(source, t)]

    def draw(
        self,
        sources: Sequence[Expression | None],
        uniforms: np.ndarray,
        p: float = 1.0,
        among: LabelScheme | None = None,
    ) -> list[Draw | None]:
        """Decide what to ask for each face; None leaves it as it is.

        Args:
            sources: what the faces show; None for those whose class shows none of the expressions,
                which are left alone.
            uniforms: (B, 3) numbers in [0, 1) from the caller's own random generator: they alone
                decide, for whether and what, for the intensity, and for the variant.
            p: probability that a face is worked on at all.
            among: ask only for expressions that this scheme has a class for; None asks for all.
        """
        return [self._draw(s, u, p, among) for s, u in zip(sources, uniforms.tolist(), strict=True)]

    def _draw(
        self,
        source: Expression | None,
        uniform: list[float],
        p: float,
        among: LabelScheme | None,
    ) -> Draw | None:
        threshold = uniform[0]
        if threshold >= p or source is None:
            return None
        level = self.levels[int(uniform[1] * len(self.levels))]
        for target, probability in self._probabilities(source, among):
            threshold -= p * probability
            if threshold < 0:
                return Draw(target, level, int(uniform[2] * self.synthesizer.variants))
        return None

    def _probabilities(
        self, source: Expression | None, among: LabelScheme | None
    ) -> list[tuple[Expression, float]]:
        key = source, None if among is None else frozenset(among.expressions.values())
        if key not in self._targets:
            available = [t for t in self.available(source) if among is None or t in among]
            self._targets[key] = sorted(self.policy.probabilities(source, available).items())
        return self._targets[key]

    def possible(self, source: Expression | None, among: LabelScheme | None = None) -> list[Draw]:
        """Return every draw that can happen to a face that shows `source`; see `draw`."""
        if source is None:
            return []
        return [
            Draw(target, level, variant)
            for target, probability in self._probabilities(source, among)
            if probability > 0
            for level in self.levels
            for variant in range(self.synthesizer.variants)
        ]

    def __call__(
        self,
        images: Sequence[np.ndarray],
        draws: Sequence[Draw | None],
        *,
        on_miss: OnMiss | None = None,
    ) -> list[Outcome]:
        """Carry draws out.

        Args:
            images: (H, W) grey or (H, W, 3) RGB uint8; sizes may differ.
            draws: what to ask for each; None leaves the image alone.
            on_miss: instead of the augmenter's own.

        Returns:
            One outcome an image. Whatever goes wrong with a face leaves it as it is, with the
            reason.

        Raises:
            UnsupportedExpressionError: a target that the synthesizer does not have.
            CacheMissError: a miss with `on_miss="error"`, or with a CUDA synthesizer in a worker.
        """
        outcomes = [Outcome(image) for image in images]
        drawn = [(i, draw) for i, draw in enumerate(draws) if draw is not None]
        digests: dict[int, bytes] = {}
        entries: dict[int, CacheEntry] = {}
        if self.cache is not None:
            for i, draw in drawn:
                digests[i] = image_digest(images[i])
                found = self.cache.get(self._key(digests[i], draw))
                if found is not None:
                    entries[i] = found
        missing = [(i, draw) for i, draw in drawn if i not in entries]
        if missing and self._may_synthesize(len(missing), on_miss or self.on_miss):
            lacking = [images[i] for i, _ in missing]
            made = synthesize(
                lacking,
                self.locate(lacking),
                [draw for _, draw in missing],
                self.synthesizer,
                self.gate,
                device=self.device,
                batch_size=self.batch_size,
            )
            if self.cache is not None:
                keys = [self._key(digests[i], draw) for i, draw in missing]
                if not self.cache.readonly:
                    self.cache.put_many(zip(keys, made, strict=True))
                made = [self.cache.as_stored(k, e) for k, e in zip(keys, made, strict=True)]
            made_now = dict(zip((i for i, _ in missing), made, strict=True))
        else:
            made_now = {}
        for i, draw in drawn:
            entry = entries.get(i) or made_now.get(i)
            outcomes[i] = self._judge(images[i], draw, entry, cached=i in entries)
            self.stats[outcomes[i].reason or ("cached" if i in entries else "made")] += 1
        return outcomes

    def _judge(
        self, image: np.ndarray, draw: Draw, entry: CacheEntry | None, cached: bool
    ) -> Outcome:
        if entry is None:
            return Outcome(image, reason="not_cached")
        if entry.patch is None:
            return Outcome(image, reason=entry.reason, cached=cached)
        reason = self.gate.verdict(entry.scores) if self.gate else ""
        if reason:
            return Outcome(image, reason=reason, scores=entry.scores, cached=cached)
        return Outcome(_pasted(image, entry), draw.target, "", entry.scores, cached)

    def _key(self, digest: bytes, draw: Draw) -> bytes:
        return entry_key(digest, self.fingerprint, int(draw.target), draw.level, draw.variant)

    def _may_synthesize(self, count: int, on_miss: OnMiss) -> bool:
        in_worker = get_worker_info() is not None
        if on_miss == "synthesize" and in_worker and self.device.type == "cuda":
            raise CacheMissError(
                "a DataLoader worker met a face that is not cached, and CUDA cannot run in a "
                "worker. Either warm the cache before training (augmenter.warm(dataset)), or apply "
                "RandomExpression to whole batches in the training process"
            )
        if on_miss == "error":
            raise CacheMissError(
                f"{count} synthetic face(s) not in the cache, and on_miss='error': run "
                f"augmenter.warm(dataset) with these settings first"
            )
        return on_miss == "synthesize"

    def clip(
        self,
        image: np.ndarray,
        source: Expression | str | None,
        target: Expression | str,
        frames: int = 16,
        *,
        variant: int = 0,
    ) -> np.ndarray:
        """Turn one image into a clip of its face, from the source to the full expression.

        Clips are not kept in the cache, which only tells where the face is. The gate judges the
        last frame.

        Args:
            image: (H, W) grey or (H, W, 3) RGB uint8.
            source: what the face shows; None if that is not known.
            target: what the last frame shows.
            frames: their number T, at least 2.
            variant: of the synthesizer's `variants`, counted from 0.

        Returns:
            (T, C, H, W) uint8, C = 1 for a grey image and 3 otherwise. The first frame is the
            image, and every frame is the image where the face's soft mask is 0.

        Raises:
            NoFaceError: no face in the image.
            UnsupportedExpressionError: the synthesizer does not make the target, or not of a face
                that shows the source.
            RejectedError: the gate's verdict on the last frame; its `reason` says which.
            CacheMissError: a CUDA synthesizer in a DataLoader worker.
            ValueError: fewer than two frames, or no such variant.
        """
        wanted = Expression.parse(target)
        shown = None if source is None else Expression.parse(source)
        if frames < 2:
            raise ValueError(f"a clip has at least 2 frames, not {frames}")
        if not 0 <= variant < self.synthesizer.variants:
            raise ValueError(f"variant must be 0 to {self.synthesizer.variants - 1}, not {variant}")
        self.require([wanted])
        if not self.synthesizer.accepts(shown, wanted):
            if shown is None:
                raise UnsupportedExpressionError(
                    f"{self.synthesizer.name!r} must know what a face shows to make {wanted} of "
                    f"it: name it, as source='neutral' (--shows neutral)"
                )
            raise UnsupportedExpressionError(
                f"{self.synthesizer.name!r} cannot make {wanted} of a face that shows {shown}; "
                f"it can make {', '.join(map(str, self.available(shown))) or 'nothing'} of it"
            )
        if get_worker_info() is not None and self.device.type == "cuda":
            raise CacheMissError(
                "clips are not cached, and CUDA cannot run in a DataLoader worker: make them in "
                "the training process (num_workers=0), or on the CPU (device='cpu')"
            )
        try:
            made = self._clip(image, wanted, frames, variant)
        except (NoFaceError, RejectedError) as error:
            self.stats[error.reason] += 1
            raise
        self.stats["made"] += 1
        return made

    def _clip(self, image: np.ndarray, target: Expression, frames: int, variant: int) -> np.ndarray:
        (location,) = self.locate([image])
        if location is None:
            height, width = image.shape[:2]
            raise NoFaceError(
                f"no face found in the {width}x{height} image; for images that are face crops "
                f"already, use faces='crop'"
            )
        entries, scores = synthesize_clip(
            image,
            location,
            target,
            frames,
            self.synthesizer,
            self.gate,
            variant=variant,
            device=self.device,
        )
        if reason := self.gate.verdict(scores) if self.gate else "":
            told = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
            error = RejectedError(f"the gate rejects the clip of {target}: {reason} ({told})")
            error.reason = reason
            raise error
        made = np.stack([_pasted(image, entry) for entry in entries])
        return made[:, None] if made.ndim == 3 else made.transpose(0, 3, 1, 2)

    def locate(self, images: Sequence[np.ndarray]) -> list[Location | None]:
        """Return where the faces are, from the cache where it knows: (5, 2) points, and counts."""
        locator = self.locator
        if self.cache is not None and not locator.constant:
            locator = CachedLocator(locator, self.cache)
        # one image may be asked for several expressions: it is looked at once
        return RecallingLocator(locator)(images)

    def warm(
        self,
        dataset: Any,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None],
        *,
        num_workers: int = 0,
        progress: bool = True,
    ) -> WarmReport:
        """Synthesize ahead, into the cache, everything that can be drawn for a data set.

        Args:
            dataset: map-style, of `(image, label)` or `{"image": ..., "label": ...}`, with no
                random transform; images as `as_array` takes them.
            scheme: what the labels mean.
            num_workers: processes that read the data set.
            progress: show a progress bar.

        Returns:
            Counts, and each sample that was skipped with its reason. A damaged sample is skipped,
            never an error.

        Raises:
            ValueError: the augmenter has no cache.
        """
        from expraug.warm import warm

        return warm(self, dataset, scheme, num_workers=num_workers, progress=progress)

    def require(self, targets: Sequence[Expression]) -> None:
        """Raise UnsupportedExpressionError unless the synthesizer has all these targets."""
        lacking = [t for t in targets if t not in self.synthesizer.expressions]
        if lacking:
            raise UnsupportedExpressionError(
                f"{self.synthesizer.name!r} cannot make {', '.join(map(str, lacking))}; "
                f"it can make {', '.join(map(str, self.synthesizer.expressions))}"
            )


def _pasted(image: np.ndarray, entry: CacheEntry) -> np.ndarray:
    """Return the image with an entry's patch in its place."""
    assert entry.patch is not None
    (top, left), (height, width) = entry.origin, entry.patch.shape[:2]
    if (height, width) == image.shape[:2]:
        return entry.patch
    changed = image.copy()
    changed[top : top + height, left : left + width] = entry.patch
    return changed
