"""The augmenter: images and requests in, synthetic images out, through the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from expraug.cache import SynthesisCache
from expraug.errors import UnsupportedExpressionError
from expraug.expressions import Expression
from expraug.faces.detect import DetectedFace, Detector, create_detector
from expraug.faces.pixels import Pixels, on_device
from expraug.gate import GateLike, create_gate
from expraug.landmark_gate import with_landmark_check
from expraug.pipeline.device import device_for
from expraug.pipeline.key import Fingerprint
from expraug.pipeline.lookup import OnMiss, find_or_make
from expraug.pipeline.memo import MemoizedDetector
from expraug.pipeline.requests import Outcome, SynthesisRequest, sample_menu
from expraug.pipeline.synthesize import synthesize
from expraug.pipeline.synthetic import Result, Synthetic, beside, digests_of, with_patch
from expraug.policy import Policy, Uniform
from expraug.synthesizer import AUTO, Synthesizer, create_synthesizer, resolve_name

if TYPE_CHECKING:
    from expraug.expressions import LabelScheme
    from expraug.pipeline.warm import WarmReport


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
        gate: None, "identity", "natural", or a `Gate`; see `create_gate`.
        check_landmarks: whether faces whose landmarks do not show what was asked are refused too,
            by a `LandmarkGate`.
        cache: folder of a `SynthesisCache`, or one; None keeps nothing.
        on_miss: what a face that is not cached means: "synthesize" it now, "keep" the source, or
            raise an "error".
        per_image: requests that each image offers; see `menu`.
        seed: decides, with an image's bytes and the policy, which ones.
        device: where detector, synthesizer and gate run. With `on_miss="keep"` or "error" it may
            be one that this machine lacks: of a cache that was made on it, all can be read.
        batch_size: faces per batch.

    Attributes:
        stats: counts of outcomes in this process: "made", "cached", and each reason.
        variants: number of the synthesizer's variants.

    Raises:
        MissingWeightsError: no such synthesizer.
        DeviceError: no such device.
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
        gate: GateLike = None,
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
        self.device = device_for(device, on_miss)
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
        self.gate = with_landmark_check(create_gate(gate), check_landmarks)
        self.cache = SynthesisCache(cache) if isinstance(cache, (str, Path)) else cache
        self.on_miss = on_miss
        self.per_image, self.seed = per_image, seed
        self.batch_size = batch_size
        self.stats: Counter[str] = Counter()
        self._probabilities: dict[tuple[Any, ...], list[tuple[Expression, float]]] = {}
        self._synthesizer_fingerprint = self.synthesizer.fingerprint
        self._register()

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides on the bytes of what it makes, besides image and request."""
        gate = self.gate.fingerprint if self.gate else "no-gate"
        made_by = self._synthesizer_fingerprint, self.detector.fingerprint, gate
        return Fingerprint(*made_by, self.device.type)

    def _register(self) -> None:
        if self.cache is not None and not self.cache.readonly:
            self.cache.register(str(self.fingerprint))
            if not self.detector.constant:
                self.cache.register(self._memoized().cache_name)

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
        """Move detector, synthesizer and gate to a device, and return the augmenter itself.

        What is made there has other keys in the cache (`Fingerprint`).

        Raises:
            DeviceError: no such device, as when the augmenter is made.
        """
        self.device = device_for(device, self.on_miss)
        self._memoized().to(self.device)
        self._register()
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
        images: Sequence[Pixels],
        requests: Sequence[SynthesisRequest | None],
        *,
        on_miss: OnMiss | None = None,
        digests: Sequence[bytes] | None = None,
    ) -> list[Outcome]:
        """Carry requests out.

        Args:
            images: (H, W) grey or (H, W, 3) RGB uint8 arrays, or (1 or 3, H, W) uint8 tensors on
                any device; sizes may differ.
            requests: what is asked of each; None leaves the image alone.
            on_miss: instead of the augmenter's own.
            digests: of the images (`expraug.cache.image_digest`), if they are known.

        Returns:
            One outcome per image, which has its form and device. Whatever goes wrong with a face
            leaves it as it is, with the reason.

        Raises:
            UnsupportedExpressionError: a target that the synthesizer does not have.
            CacheMissError: a miss with `on_miss="error"`, or with a CUDA synthesizer in a worker.
            CacheError: a thread could not store what was made before.
        """
        outcomes = [Outcome(image) for image in images]
        found = find_or_make(self, images, requests, digests, on_miss or self.on_miss)
        results = beside([images[i] for i in found], [one.result for one in found.values()])
        for (i, one), result in zip(found.items(), results, strict=True):
            request = requests[i]
            assert request is not None
            outcomes[i] = self.outcome(images[i], request, result, one.cached)
            self.stats[outcomes[i].reason or ("cached" if one.cached else "made")] += 1
        return outcomes

    def fill(
        self,
        images: Sequence[Pixels],
        requests: Sequence[SynthesisRequest],
        digests: Sequence[bytes],
    ) -> list[tuple[str, bool]]:
        """Carry requests out for the cache alone, without making images of them.

        Returns:
            Of each request the reason why it cannot be used, or "", and whether it was cached.
        """
        found = find_or_make(self, images, requests, digests, "synthesize")
        told = [(self._reason(one.result), one.cached) for one in found.values()]
        self.stats.update(reason or ("cached" if cached else "made") for reason, cached in told)
        return told

    def synthesize(
        self,
        images: Sequence[Pixels],
        requests: Sequence[SynthesisRequest],
        digests: Sequence[bytes] | None,
        frames: int | None = None,
    ) -> list[list[Synthetic]]:
        """Find faces and make what is asked, past the cache of synthetics; see `synthesize`."""
        digests = digests_of(images) if digests is None else digests
        images = on_device(images, self.device)
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
        self, image: Pixels, request: SynthesisRequest, result: Result | None, cached: bool
    ) -> Outcome:
        """Return what a result beside an image (None: there is none) makes of it."""
        reason = self._reason(result)
        if result is None or result.patch is None:
            return Outcome(image, reason=reason, cached=cached)
        if reason:
            return Outcome(image, reason=reason, scores=result.scores, cached=cached)
        return Outcome(with_patch(image, result), request.target, "", result.scores, cached)

    def _reason(self, result: Result | None) -> str:
        if result is None:
            return "not_cached"
        if result.patch is None:
            return result.reason
        return self.gate.rejection(result.scores) if self.gate else ""

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
        self, images: Sequence[Pixels], digests: Sequence[bytes] | None = None
    ) -> list[DetectedFace | None]:
        """Return the largest face of each image, None where there is none.

        The cache is asked first; one image is looked at once, however often it comes.

        Args:
            images: as `__call__` takes them.
            digests: of the images, if they are known.
        """
        return self._memoized()(images, digests)

    def _memoized(self) -> MemoizedDetector:
        if isinstance(self.detector, MemoizedDetector):
            return self.detector
        return MemoizedDetector(self.detector, self.cache)

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
