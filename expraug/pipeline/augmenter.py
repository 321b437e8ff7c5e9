"""The augmenter: images and requests in, synthetic images out, through the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import get_worker_info

from expraug.cache import CacheEntry, SynthesisCache, image_digest
from expraug.errors import CacheMissError, UnsupportedExpressionError
from expraug.expressions import Expression
from expraug.faces.detect import DetectedFace, Detector, create_detector
from expraug.gate import Gate, IdentityGate
from expraug.landmark_gate import with_landmark_check
from expraug.pipeline.device import existing_device
from expraug.pipeline.key import Fingerprint, synthetic_key
from expraug.pipeline.memo import MemoizedDetector
from expraug.pipeline.requests import Outcome, SynthesisRequest, sample_menu
from expraug.pipeline.synthesize import synthesize, with_patch
from expraug.policy import Policy, Uniform
from expraug.synthesizer import AUTO, Synthesizer, create_synthesizer, resolve_name

if TYPE_CHECKING:
    from expraug.expressions import LabelScheme
    from expraug.pipeline.warm import WarmReport

OnMiss = Literal["synthesize", "keep", "error"]


class ExpressionAugmenter:
    """Turns images into images with other expressions: cache, detector, synthesizer, gate.

    Every door calls it, and so does what shows, measures or trains on a synthetic face. It pickles
    small: a synthesizer given by name is loaded again where it is needed.

    Args:
        synthesizer: a name, folder or hub id, as `create_synthesizer` takes it, or a `Synthesizer`.
        policy: decides on targets; `Uniform()` if None.
        intensity: (low, high) in (0, 1].
        intensity_levels: number of evenly spaced intensities from low to high that are asked for.
        alignment: "crop" (the images are face crops, as FER2013), "detect" (photographs), or a
            `Detector`. A synthesizer that needs landmarks gets them from a `LandmarkDetector` in
            either case.
        gate: None, "identity" (an `IdentityGate` on the default encoder), or a `Gate`.
        check_landmarks: whether faces whose landmarks do not show what was asked are refused too,
            by a `LandmarkGate`.
        cache: folder of a `SynthesisCache`, or one; None keeps nothing.
        on_miss: what a face that is not cached means: "synthesize" it now, "keep" the source, or
            raise an "error".
        per_image: requests that each image offers; see `menu`.
        seed: decides, with an image's bytes and the policy, which ones.
        device: where the synthesizer runs.
        batch_size: faces per batch.

    Attributes:
        stats: counts of outcomes in this process: "made", "cached", and each reason.
        variants: number of the synthesizer's variants.
        fingerprint: the `Fingerprint` of what it makes.

    Raises:
        MissingWeightsError: no such synthesizer.
        ValueError: an argument out of range, or a detector without the landmarks that the
            synthesizer needs.
    """

    def __init__(
        self,
        synthesizer: str | Synthesizer = AUTO,
        *,
        policy: Policy | None = None,
        intensity: tuple[float, float] = (0.6, 1.0),
        intensity_levels: int = 3,
        alignment: str | Detector = "crop",
        gate: Gate | Literal["identity"] | None = None,
        check_landmarks: bool = True,
        cache: SynthesisCache | str | Path | None = None,
        on_miss: OnMiss = "synthesize",
        per_image: int = 4,
        seed: int = 0,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ) -> None:
        if not isinstance(intensity, Sequence) or len(intensity) != 2:
            raise ValueError(f"intensity must be (low, high), as (0.6, 1.0), not {intensity!r}")
        low, high = intensity
        if not 0 < low <= high <= 1:
            raise ValueError(f"intensity must be 0 < low <= high <= 1, not {intensity}")
        if on_miss not in ("synthesize", "keep", "error"):
            raise ValueError(f"on_miss must be 'synthesize', 'keep' or 'error', not {on_miss!r}")
        if isinstance(gate, str) and gate != "identity":
            raise ValueError(f"gate must be 'identity', None or a Gate, not {gate!r}")
        if per_image < 1:
            raise ValueError(f"per_image must be at least 1, not {per_image}")
        self._name: str | None = None
        if isinstance(synthesizer, str):
            self._name = resolve_name(synthesizer)
            synthesizer = create_synthesizer(self._name)
        self._synthesizer: Synthesizer | None = synthesizer
        # what it can make, told without it: a reader of the cache need not load it
        self.variants = synthesizer.variants
        self._supported = {
            source: [t for t in synthesizer.expressions if synthesizer.supports(source, t)]
            for source in (None, *Expression)
        }
        self.device = existing_device(device)
        self.policy: Policy = policy or Uniform()
        percents = np.rint(np.linspace(low, high, max(intensity_levels, 1)) * 100)
        self.percents = [max(1, int(level)) for level in np.unique(percents)]
        if isinstance(alignment, str):
            alignment = create_detector(alignment, device)
        self.detector: Detector = alignment
        if synthesizer.needs_landmarks and not getattr(self.detector, "landmarks", False):
            raise ValueError(
                f"{self.synthesizer.name!r} needs landmarks, which {type(self.detector).__name__} "
                f"does not find: use alignment='crop', alignment='detect' or a LandmarkDetector"
            )
        gate = IdentityGate() if isinstance(gate, str) else gate
        self.gate = with_landmark_check(gate, check_landmarks)
        self.cache = SynthesisCache(cache) if isinstance(cache, (str, Path)) else cache
        self.on_miss = on_miss
        self.per_image, self.seed = per_image, seed
        self.batch_size = batch_size
        self.stats: Counter[str] = Counter()
        self._probabilities: dict[tuple[Any, ...], list[tuple[Expression, float]]] = {}
        self.fingerprint = Fingerprint(
            self.synthesizer.fingerprint,
            self.detector.fingerprint,
            self.gate.fingerprint if self.gate else "no-gate",
        )
        self._cache_name = str(self.fingerprint)
        if self.cache is not None and not self.cache.readonly:
            self.cache.register(self._cache_name)
            if not self.detector.constant:
                self.cache.register(self.detector.fingerprint)

    def __getstate__(self) -> dict[str, Any]:
        # settings alone: `datasets` knows a computation by its pickle, which use must not change
        state = self.__dict__ | {"stats": Counter(), "_probabilities": {}}
        return state | ({"_synthesizer": None} if self._name is not None else {})

    def __repr__(self) -> str:
        names = ("policy", "percents", "on_miss", "per_image", "seed", "device")
        settings = {name: getattr(self, name) for name in names} | {
            "alignment": self.detector.fingerprint,
            "gate": self.fingerprint.gate,
            "cache": None if self.cache is None else str(self.cache.path),
        }
        shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"ExpressionAugmenter({self._name or self.fingerprint.synthesizer!r}, {shown})"

    @property
    def synthesizer(self) -> Synthesizer:
        """The synthesizer, loaded if this process does not have it yet."""
        if self._synthesizer is None:
            assert self._name is not None
            self._synthesizer = create_synthesizer(self._name)
        return self._synthesizer

    def to(self, device: str | torch.device) -> ExpressionAugmenter:
        """Move detector, synthesizer and gate to a device, and return the augmenter itself."""
        self.device = torch.device(device)
        if hasattr(self.detector, "to"):
            self.detector.to(self.device)
        return self  # synthesizer and gate follow with the first faces

    def available(self, source: Expression | None) -> list[Expression]:
        """Return the targets that the synthesizer can make of a face that shows `source`."""
        return list(self._supported[source])

    def menu(
        self, digest: bytes, source: Expression | None, scheme: LabelScheme | None = None
    ) -> tuple[SynthesisRequest | None, ...]:
        """Return the `per_image` requests that an image offers; see `sample_menu`.

        Args:
            digest: of the image (`expraug.cache.image_digest`).
            source: what it shows; None: it offers nothing.
            scheme: only expressions that this scheme has a class for; None allows all.
        """
        if source is None:
            return (None,) * self.per_image
        key = source, None if scheme is None else frozenset(scheme.expressions.values())
        if key not in self._probabilities:
            available = [t for t in self.available(source) if scheme is None or t in scheme]
            found = self.policy.probabilities(source, available)
            self._probabilities[key] = sorted(found.items())
        return sample_menu(
            digest,
            self._probabilities[key],
            self.percents,
            self.variants,
            per_image=self.per_image,
            seed=self.seed,
        )

    def sample_request(
        self,
        digest: bytes,
        source: Expression | None,
        uniform: float,
        scheme: LabelScheme | None = None,
    ) -> SynthesisRequest | None:
        """Return one request of an image's menu, or None: the image stays as it is.

        Args:
            digest, source, scheme: as `menu` takes them.
            uniform: number in [0, 1) from the caller's own random generator; it alone decides.
        """
        return self.menu(digest, source, scheme)[int(uniform * self.per_image)]

    def __call__(
        self,
        images: Sequence[np.ndarray],
        requests: Sequence[SynthesisRequest | None],
        *,
        on_miss: OnMiss | None = None,
        digests: Sequence[bytes] | None = None,
    ) -> list[Outcome]:
        """Carry requests out.

        Args:
            images: (H, W) grey or (H, W, 3) RGB uint8; sizes may differ.
            requests: what is asked of each; None leaves the image alone.
            on_miss: instead of the augmenter's own.
            digests: of the images (`expraug.cache.image_digest`), if they are known.

        Returns:
            One outcome per image. Whatever goes wrong with a face leaves it as it is, with the
            reason.

        Raises:
            UnsupportedExpressionError: a target that the synthesizer does not have.
            CacheMissError: a miss with `on_miss="error"`, or with a CUDA synthesizer in a worker.
        """
        outcomes = [Outcome(image) for image in images]
        asked = [(i, request) for i, request in enumerate(requests) if request is not None]
        if not asked:
            return outcomes
        if digests is None:
            by_array = {id(images[i]): image_digest(images[i]) for i, _ in asked}
            digests = [by_array.get(id(image), b"") for image in images]
        keys = {i: synthetic_key(digests[i], self._cache_name, request) for i, request in asked}
        entries: dict[int, CacheEntry] = {}
        if self.cache is not None:
            for i, key in keys.items():
                if (found := self.cache.get(key)) is not None:
                    entries[i] = found
        cached = set(entries)
        missing = [(i, request) for i, request in asked if i not in entries]
        if missing and self.may_synthesize(len(missing), on_miss or self.on_miss):
            made = self.synthesize(
                [images[i] for i, _ in missing],
                [request for _, request in missing],
                [digests[i] for i, _ in missing],
            )
            stored = [(keys[i], entry) for (i, _), (entry,) in zip(missing, made, strict=True)]
            if self.cache is not None:
                if not self.cache.readonly:
                    self.cache.put_many(stored)
                stored = [(key, self.cache.as_stored(key, entry)) for key, entry in stored]
            entries |= {i: entry for (i, _), (_, entry) in zip(missing, stored, strict=True)}
        for i, request in asked:
            outcome = self.outcome(images[i], request, entries.get(i), cached=i in cached)
            self.stats[outcome.reason or ("cached" if i in cached else "made")] += 1
            outcomes[i] = outcome
        return outcomes

    def synthesize(
        self,
        images: Sequence[np.ndarray],
        requests: Sequence[SynthesisRequest],
        digests: Sequence[bytes] | None,
        frames: int | None = None,
    ) -> list[list[CacheEntry]]:
        """Find faces and make what is asked, past the cache of synthetics; see `synthesize`."""
        return synthesize(
            images,
            self.detect(images, digests),
            requests,
            self.synthesizer,
            self.gate,
            device=self.device,
            batch_size=self.batch_size,
            frames=frames,
        )

    def outcome(
        self, image: np.ndarray, request: SynthesisRequest, entry: CacheEntry | None, cached: bool
    ) -> Outcome:
        """Return what an entry of the cache (None: there is none) makes of an image."""
        if entry is None:
            return Outcome(image, reason="not_cached")
        if entry.patch is None:
            return Outcome(image, reason=entry.reason, cached=cached)
        reason = self.gate.rejection(entry.scores) if self.gate else ""
        if reason:
            return Outcome(image, reason=reason, scores=entry.scores, cached=cached)
        return Outcome(with_patch(image, entry), request.target, "", entry.scores, cached)

    def may_synthesize(self, count: int, on_miss: OnMiss) -> bool:
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
        """Turn one image into a clip of its face: see `expraug.pipeline.clip.clip`."""
        from expraug.pipeline.clip import clip

        return clip(self, image, source, target, frames, variant=variant)

    def detect(
        self, images: Sequence[np.ndarray], digests: Sequence[bytes] | None = None
    ) -> list[DetectedFace | None]:
        """Return the largest face of each image, None where there is none.

        The cache is asked first; one image is looked at once, however often it comes.

        Args:
            images: as `__call__` takes them.
            digests: of the images, if they are known.
        """
        detector = self.detector
        if not isinstance(detector, MemoizedDetector):
            detector = MemoizedDetector(detector, self.cache)
        return detector(images, digests)

    def warm(
        self,
        dataset: Any,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None] | None = None,
        *,
        num_workers: int = 0,
        progress: bool = True,
    ) -> WarmReport:
        """Synthesize ahead, into the cache, what `expraug.pipeline.warm.warm` says."""
        from expraug.pipeline.warm import warm

        return warm(self, dataset, scheme, num_workers=num_workers, progress=progress)

    def require(
        self,
        targets: Sequence[Expression],
        source: Expression | Literal["any"] | None = "any",
        variant: int = 0,
    ) -> None:
        """Raise UnsupportedExpressionError unless the synthesizer can make all these targets.

        Args:
            targets: expressions.
            source: of a face that shows this; "any" asks for the targets alone.
            variant: ValueError if there is no such one.
        """
        if not 0 <= variant < self.synthesizer.variants:
            raise ValueError(f"variant must be 0 to {self.synthesizer.variants - 1}, not {variant}")
        name, all_of_them = self.synthesizer.name, self.synthesizer.expressions
        if missing := [t for t in targets if t not in all_of_them]:
            raise UnsupportedExpressionError(
                f"{name!r} cannot make {', '.join(map(str, missing))}; "
                f"it can make {', '.join(map(str, all_of_them))}"
            )
        if source == "any":
            return
        there = self.available(source)
        for target in targets:
            if target in there:
                continue
            if source is None:
                raise UnsupportedExpressionError(
                    f"{name!r} must know what a face shows to make {target} of it: name it, as "
                    f"source='neutral' (--shows neutral)"
                )
            raise UnsupportedExpressionError(
                f"{name!r} cannot make {target} of a face that shows {source}; "
                f"it can make {', '.join(map(str, there)) or 'nothing'} of it"
            )
