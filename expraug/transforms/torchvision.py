"""`RandomExpression` for torchvision's v2 transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from expraug.cache import SynthesisCache
from expraug.errors import LabelError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.detect import Detector
from expraug.gate import GateLike
from expraug.labels import SchemeLike
from expraug.pipeline import ExpressionAugmenter, OnMiss, SynthesisRequest
from expraug.pipeline.requests import uniforms_from_digest
from expraug.pipeline.samples import SampleRequest, augment_batch, augment_samples
from expraug.policy import Policy
from expraug.synthesizer import Synthesizer
from expraug.transforms import augmenter_for
from expraug.transforms.labelled import LabelledTransform, check_p, resolve_scheme, shown
from expraug.transforms.structure import LabelsGetter, SampleStructure, is_image


class RandomExpression(LabelledTransform, v2.Transform):  # type: ignore[misc]
    """Give faces another expression, and their labels with it.

    Works on one sample (PIL image, (C, H, W) tensor or (H, W, C) array) and on whole batches
    ((B, C, H, W) or (B, H, W, C)), in any structure that `v2` transforms take; uint8, or float in
    [0, 1]. Put it first in the pipeline: behind a random crop no face is ever seen twice, and
    the cache is of no use. What comes out has the form of what came in; where nothing is changed,
    image and label are the very objects that were given.

    A batch of tensors is worked on where the augmenter is (`device`), and comes back where it was,
    in its own type (uint8, float32, float16, bfloat16): the same bytes as its images would give one
    by one, if uint8. Its pixels are copied to the host once, to tell images apart by their digests.

    A label is a class index, a class name, or a one-hot or soft vector over the classes (one-hot
    where it was changed); of a batch, (B,) or (B, classes).

    Random numbers come from torch's global generator, so `torch.manual_seed` and DataLoader's
    worker seeding apply: a run with the same seed and number of workers repeats. With `seed`, what
    a face becomes depends on `seed`, the epoch and its own pixels alone: the same pictures with any
    number of workers, in any order. Call `set_epoch` then, as on a distributed sampler.

    Args:
        scheme: what the labels mean: a published scheme's name ("fer2013", "raf-db", ...), class
            names in index order, a mapping from class name to expression, or a `LabelScheme`.
            None: `expraug.JointTransform` reads it off the data set.
        synthesizer: name, folder or hub id of a synthesizer, or one.
        targets: the expressions to ask for; None for all that the synthesizer and the scheme have.
        policy: instead of `targets`: a `Policy`, or its JSON form (`create_policy`).
        intensity: (low, high) in (0, 1].
        alignment: "crop" for face crops, "detect" for photographs, or a `Detector`.
        gate: None, "identity", "natural", or a `Gate`; see `expraug.gate.create_gate`.
        check_landmarks: refuse faces whose landmarks do not show what was asked, too.
        cache: folder or `SynthesisCache`.
        on_miss: "synthesize", "keep" or "error".
        per_image: number of requests that each image offers, at most.
        device: where detector, synthesizer and gate run; see `ExpressionAugmenter`.
        p: probability that a face is worked on.
        seed: see above.
        labels_getter: "default", or a function that picks the label out of the sample. The default
            takes the second element of a tuple (the third of (image, mask, label)), or of a dict
            the first of `expraug.labels.LABEL_KEYS` that is there.
        augmenter: a ready `ExpressionAugmenter`, instead of all from `synthesizer` to `device`.

    Attributes:
        scheme: the `LabelScheme`, or None.
        augmenter: the `ExpressionAugmenter`.

    Raises:
        LabelError: unknown scheme or expression, or a target that the scheme has no class for;
            when called, a label outside the scheme or that cannot be right, or none at all.
        UnsupportedExpressionError: a target that the synthesizer cannot make.
        CacheMissError: when called, as `ExpressionAugmenter` does.
        ValueError: arguments out of range, or that exclude each other; when called, no image
            found, or one that cannot be right, as after Normalize.

    Examples:
        >>> from PIL import Image
        >>> from torchvision.transforms import v2
        >>> from expraug.transforms.torchvision import RandomExpression
        >>> train = v2.Compose([RandomExpression(["happy", "neutral"], p=1.0), v2.ToImage()])
        >>> image, label = train(Image.open("examples/faces/neutral/london_008.jpg"), 1)
        >>> label
        0
    """

    def __init__(
        self,
        scheme: SchemeLike | None = None,
        synthesizer: str | Synthesizer = "auto",
        *,
        targets: Sequence[Expression | str] | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        intensity: tuple[float, float] = (0.6, 1.0),
        alignment: str | Detector = "crop",
        gate: GateLike = None,
        check_landmarks: bool = True,
        cache: SynthesisCache | str | Path | None = None,
        on_miss: OnMiss = "synthesize",
        per_image: int = 4,
        device: str | torch.device = "cpu",
        p: float = 0.5,
        seed: int | None = None,
        labels_getter: LabelsGetter | Literal["default"] = "default",
        augmenter: ExpressionAugmenter | None = None,
    ) -> None:
        super().__init__()
        check_p(p)
        if labels_getter != "default" and not callable(labels_getter):
            raise ValueError(
                f"labels_getter must be 'default' or a function, not {labels_getter!r}"
            )
        self.p = p
        self.seed = seed
        self.scheme = resolve_scheme(scheme)
        for_augmenter = {
            "synthesizer": synthesizer,
            "targets": targets,
            "policy": policy,
            "intensity": intensity,
            "alignment": alignment,
            "gate": gate,
            "check_landmarks": check_landmarks,
            "cache": cache,
            "on_miss": on_miss,
            "per_image": per_image,
            "device": device,
        }
        self.augmenter = augmenter_for(augmenter, self.scheme, **for_augmenter)
        made_with = for_augmenter if augmenter is None else {"augmenter": augmenter}
        self._arguments = {"scheme": scheme, **made_with}
        self._labels_getter = None if labels_getter == "default" else labels_getter
        # shared memory, so that workers that live through several epochs see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, on which the requests depend where a `seed` was given."""
        self._epoch.fill_(epoch)

    def extra_repr(self) -> str:
        return shown({**self._arguments, "p": self.p, "seed": self.seed})

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *inputs: Any) -> Any:
        """Return the sample or batch with images and labels changed together."""
        sample = inputs[0] if len(inputs) == 1 else inputs
        if type(sample) is tuple and len(sample) == 2 and self._labels_getter is None:
            image, label = sample  # by far the most frequent; flattening it would cost the most
            if is_image(image) and isinstance(label, (int, str, Tensor)):
                return self._changed(image, label)
        structure = SampleStructure(sample, self._labels_getter)
        return structure.with_others(*self._changed(structure.image, structure.label))

    def _changed(self, image: Any, label: Any) -> tuple[Any, Any]:
        if getattr(image, "ndim", 0) == 4:
            return self._changed_batch(image, label)
        return self._changed_samples([image], [label])[0]

    def _changed_samples(
        self, images: Sequence[Any], labels: Sequence[Any]
    ) -> list[tuple[Any, Any]]:
        """Return (image, label) of each sample."""
        scheme = self._scheme_of(labels[0])
        request, wanted = self._sampling(len(images), scheme)
        made = augment_samples(self.augmenter, scheme, images, labels, request, wanted=wanted)
        return [(sample.image, sample.label) for sample in made]

    def _sampling(self, count: int, scheme: LabelScheme) -> tuple[SampleRequest, list[bool] | None]:
        """Return what asks for an expression, and which of so many samples are worked on.

        Without a seed the latter needs no pixels, so that most images need not be looked at.
        """
        if self.seed is None:
            uniforms = torch.rand(count, 2).tolist()

            def sampled(i: int, digest: bytes, source: Expression) -> SynthesisRequest | None:
                return self.augmenter.sample_request(digest, source, uniforms[i][1], scheme)

            return sampled, [first < self.p for first, _ in uniforms]
        seed, epoch = self.seed, int(self._epoch)

        def from_pixels(i: int, digest: bytes, source: Expression) -> SynthesisRequest | None:
            first, second = uniforms_from_digest(digest, seed, epoch)
            if first >= self.p:
                return None
            return self.augmenter.sample_request(digest, source, second, scheme)

        return from_pixels, None

    def _changed_batch(self, images: Any, labels: Any) -> tuple[Any, Any]:
        check_batch(images, labels)
        if len(images) == 0:
            return images, labels
        if isinstance(images, Tensor):
            return self._changed_tensors(images, labels)
        rows = rows_of(images)
        made = self._changed_samples(rows, rows_of(labels))
        if all(image is row for (image, _), row in zip(made, rows, strict=True)):
            return images, labels
        return stacked([im for im, _ in made], images), stacked([lb for _, lb in made], labels)

    def _changed_tensors(self, images: Tensor, labels: Any) -> tuple[Any, Any]:
        plain, rows = images.as_subclass(Tensor), rows_of(labels)
        scheme = self._scheme_of(rows[0])
        request, wanted = self._sampling(len(plain), scheme)
        made, new = augment_batch(self.augmenter, scheme, plain, rows, request, wanted=wanted)
        if made is plain:
            return images, labels
        if isinstance(images, tv_tensors.TVTensor):
            made = tv_tensors.wrap(made, like=images)
        return made, stacked(new, labels)


def check_batch(images: Any, labels: Any) -> None:
    """Raise LabelError unless there is one label for each image of a batch."""
    if isinstance(labels, (Tensor, np.ndarray)):
        right = labels.ndim in (1, 2) and len(labels) == len(images)
        got = f"shape {tuple(labels.shape)}"
    else:
        right = isinstance(labels, (list, tuple)) and len(labels) == len(images)
        got = repr(labels)[:100]
    if not right:
        raise LabelError(
            f"a batch of {len(images)} images needs as many labels, of shape ({len(images)},) or "
            f"({len(images)}, classes), not {got}"
        )


def rows_of(batch: Any) -> list[Any]:
    """Return the elements of a batch, on the CPU: one transfer, not one for each."""
    return list(batch.as_subclass(Tensor).cpu() if isinstance(batch, Tensor) else batch)


def stacked(rows: list[Any], batch: Any) -> Any:
    """Return rows as the kind of batch that they were taken from."""
    if isinstance(batch, Tensor):
        return torch.stack(rows).to(batch.device)
    return np.stack(rows) if isinstance(batch, np.ndarray) else type(batch)(rows)
