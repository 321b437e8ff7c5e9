"""`RandomExpression` for torchvision's v2 transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchvision import tv_tensors
from torchvision.transforms import v2

from expraug.cache import SynthesisCache
from expraug.errors import UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.detect import Detector
from expraug.faces.image import as_array, as_given
from expraug.gate import Gate
from expraug.pipeline import ExpressionAugmenter, OnMiss, SynthesisRequest
from expraug.policy import Policy
from expraug.synthesizer import Synthesizer
from expraug.transforms import policy_for


class RandomExpression(v2.Transform):
    """Give faces another expression, and their labels with it.

    Works on one sample (PIL image or (C, H, W) tensor, with an integer label) and on whole batches
    ((B, C, H, W) and (B,)), in any structure that `v2` transforms take. Put it first in the
    pipeline: behind a random crop no face is ever seen twice, and the cache is of no use.

    Random numbers come from torch's global generator, so `torch.manual_seed` and DataLoader's
    worker seeding apply: a run with the same seed and number of workers repeats. With `seed`, what
    a face becomes depends on `seed`, the epoch and its own pixels alone: the same pictures with any
    number of workers, in any order. Call `set_epoch` then, as on a distributed sampler.

    Args:
        scheme: what the labels mean: a published scheme's name ("fer2013", "raf-db", ...), class
            names in index order, a mapping from class name to expression, or a `LabelScheme`.
        synthesizer: name, folder or hub id of a synthesizer, or one.
        p: probability that a face is worked on.
        targets: the expressions to ask for; None for all that the synthesizer and the scheme have.
        policy: instead of `targets`: a `Policy`, or its JSON form (`create_policy`).
        intensity: (low, high) in (0, 1].
        alignment: "crop" for face crops, "detect" for photographs, or a `Detector`.
        gate: None, "identity", or a `Gate`.
        cache: folder or `SynthesisCache`.
        on_miss: "synthesize", "keep" or "error".
        device: where the synthesizer runs.
        labels_getter: "default" (the second element of a tuple, or the entry of a dict whose key
            says label), or a function that picks the label out of the sample.
        seed: see above.
        augmenter: a ready `ExpressionAugmenter`, instead of all from `synthesizer` to `device`
            but `p`.

    Raises:
        LabelError: unknown scheme; when called, a label outside it.
        UnsupportedExpressionError: a target that the synthesizer cannot make.
        CacheMissError: when called, as `ExpressionAugmenter` does.
        ValueError: arguments that exclude each other; when called, no image or label found.

    Example:
        >>> from torchvision.transforms import v2
        >>> from expraug.transforms.torchvision import RandomExpression
        >>> train = v2.Compose([RandomExpression(["happy", "neutral"], p=1.0), v2.ToImage()])
        >>> image, label = train(Image.open("examples/faces/neutral/london_008.jpg"), 1)
        >>> label
        0
    """

    def __init__(
        self,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None],
        *,
        synthesizer: str | Synthesizer = "auto",
        p: float = 0.5,
        targets: Sequence[Expression | str] | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        intensity: tuple[float, float] = (0.6, 1.0),
        alignment: str | Detector = "crop",
        gate: Gate | Literal["identity"] | None = None,
        cache: SynthesisCache | str | Path | None = None,
        on_miss: OnMiss = "synthesize",
        device: str | torch.device = "cpu",
        labels_getter: str | Callable[[Any], Any] = "default",
        seed: int | None = None,
        augmenter: ExpressionAugmenter | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p must be between 0 and 1, not {p}")
        self.scheme = LabelScheme.resolve(scheme)
        self.p = p
        self.seed = seed
        chosen = policy_for(self.scheme, targets, policy)
        if augmenter is None:
            augmenter = ExpressionAugmenter(
                synthesizer,
                policy=chosen,
                intensity=intensity,
                alignment=alignment,
                gate=gate,
                cache=cache,
                on_miss=on_miss,
                device=device,
            )
            augmenter.require([Expression.parse(t) for t in targets or ()])
        elif targets is not None or policy is not None or cache is not None or gate is not None:
            raise ValueError(
                "an augmenter brings its own policy, gate and cache; give one of the two"
            )
        self.augmenter = augmenter
        if labels_getter != "default" and not callable(labels_getter):
            raise ValueError(
                f"labels_getter must be 'default' or a function, not {labels_getter!r}"
            )
        self._labels_getter = labels_getter if callable(labels_getter) else _default_label
        # shared memory, so that workers that live through several epochs see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, on which the draws depend where a `seed` was given."""
        self._epoch.fill_(epoch)

    def forward(self, *inputs: Any) -> Any:
        """Return the sample or batch with images and labels changed together."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        if type(sample) is tuple and len(sample) == 2 and self._labels_getter is _default_label:
            image, label = sample  # by far the most frequent; flattening it would cost the most
            if isinstance(image, (Image.Image, Tensor)) and isinstance(label, (int, Tensor)):
                return self._image_and_label(image, label)
        leaves, spec = tree_flatten(sample)
        label_at = self._label_position(leaves, spec)
        image_at = self._image_position(leaves, label_at)
        changed = self._image_and_label(leaves[image_at], leaves[label_at])
        leaves[image_at], leaves[label_at] = changed
        return tree_unflatten(leaves, spec)

    def _image_and_label(self, image: Any, label: Any) -> tuple[Any, Any]:
        if isinstance(image, Tensor) and image.ndim == 4:
            return self._batch(image, label)
        return self._single(image, label)

    def _single(self, image: Any, label: Any) -> tuple[Any, Any]:
        sources = [self.scheme.expression(label if isinstance(label, str) else int(label))]
        draws = None
        if self.seed is None:  # the draw needs no pixels, and most images may be left alone
            draws = self._draws(sources, torch.rand(1, 3).numpy())
            if draws == [None]:
                return image, label
        try:
            array = as_array(image)
        except UnreadableImageError as error:  # too small for a face: nothing to be done with it
            self.augmenter.stats[error.reason] += 1
            return image, label
        if draws is None:
            draws = self._draws(sources, self._seeded([array]))
        (outcome,) = self.augmenter([array], draws)
        if outcome.target is None:
            return image, label
        return as_given(outcome.image, array, image), self._relabelled(label, outcome.target)

    def _relabelled(self, label: Any, target: Expression) -> Any:
        """Return the label of a target, as the kind that `label` is."""
        index = self.scheme.index(target)
        if isinstance(label, str):
            return self.scheme.classes[index]
        return torch.full_like(label, index) if isinstance(label, Tensor) else index

    def _batch(self, images: Tensor, labels: Any) -> tuple[Tensor, Tensor]:
        _check_batch(images, labels)
        on_cpu = images.detach().cpu()
        arrays = [as_array(image) for image in on_cpu]
        sources = [self.scheme.expression(i) for i in labels.tolist()]
        seeded = self.seed is not None
        uniforms = self._seeded(arrays) if seeded else torch.rand(len(arrays), 3).numpy()
        outcomes = self.augmenter(arrays, self._draws(sources, uniforms))
        changed, new_labels = images.clone(), labels.clone()
        for i, outcome in enumerate(outcomes):
            if outcome.target is not None:
                changed[i] = as_given(outcome.image, arrays[i], on_cpu[i]).to(images.device)
                new_labels[i] = self.scheme.index(outcome.target)
        if isinstance(images, tv_tensors.TVTensor):
            changed = tv_tensors.wrap(changed, like=images)
        return changed, new_labels

    def _draws(
        self, sources: Sequence[Expression | None], uniforms: np.ndarray
    ) -> list[SynthesisRequest | None]:
        draws = self.augmenter.draw(sources, uniforms, self.p)
        # an expression that the data set has no class for could not be labelled
        return [d if d is not None and d.target in self.scheme else None for d in draws]

    def _seeded(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Return numbers that follow from seed, epoch and pixels alone."""
        assert self.seed is not None
        return np.stack([uniforms_from_pixels(a, self.seed, int(self._epoch)) for a in arrays])

    def _label_position(self, leaves: list[Any], spec: Any) -> int:
        """Return which leaf is the label, told by place: equal integers may stand elsewhere."""
        marked = tree_unflatten([_Leaf(i) for i in range(len(leaves))], spec)
        try:
            found = self._labels_getter(marked)
        except (KeyError, IndexError, TypeError):
            found = None
        if not isinstance(found, _Leaf):
            raise ValueError(
                "found no label in the sample: pass (image, label) or a dict with a key that says "
                "'label', or give labels_getter a function that picks the label out of the sample"
            )
        return found.position

    def _image_position(self, leaves: list[Any], label_at: int) -> int:
        for kind in ((Image.Image, tv_tensors.Image), (Tensor,)):
            for i, leaf in enumerate(leaves):
                if i != label_at and isinstance(leaf, kind):
                    return i
        raise ValueError("found no image in the sample: it must be a PIL image or a tensor")


def _check_batch(images: Tensor, labels: Any) -> None:
    if not isinstance(labels, Tensor) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"a batch of {len(images)} images needs an integer tensor of as many labels, not "
            f"{tuple(labels.shape) if isinstance(labels, Tensor) else type(labels)}"
        )


class _Leaf:
    """Stands for an element of a sample while the label is looked for."""

    def __init__(self, position: int) -> None:
        self.position = position


def _default_label(sample: Any) -> Any:
    if isinstance(sample, (tuple, list)):
        return sample[1] if isinstance(sample[1], _Leaf) else _default_label(sample[1])
    exact = [key for key in sample if str(key).lower() in ("labels", "label")]
    return sample[(exact or [key for key in sample if "label" in str(key).lower()])[0]]
