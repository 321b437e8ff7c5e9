"""albumentations: `RandomExpression` changes an image and its label together.

Works with albumentations 2.0.8 and with its successor AlbumentationsX, whose hooks differ. A saved
pipeline finds the class only after this module was imported.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import get_worker_info

from expraug.errors import LabelError, MissingDependencyError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.image import as_array
from expraug.pipeline import ExpressionAugmenter, OnMiss, SynthesisRequest
from expraug.policy import Policy
from expraug.transforms import policy_for

try:
    from albumentations import ImageOnlyTransform
    from albumentations.core.type_definitions import Targets
except ImportError as error:
    raise MissingDependencyError(
        f"expraug.transforms.albumentations needs albumentations, which cannot be imported "
        f"({error}): pip install 'expraug[albumentations]'"
    ) from error
try:
    from albumentations.core.transform_params import SampledParams
except ImportError:  # 2.0.8
    SampledParams = None

_OWN_WORKER_SEEDS = SampledParams is not None
"""Whether the library itself gives each DataLoader worker its own random stream."""

_AUGMENTER_DEFAULTS: dict[str, Any] = {
    "synthesizer": "auto",
    "targets": None,
    "policy": None,
    "intensity": [0.6, 1.0],
    "faces": "crop",
    "gate": None,
    "cache": None,
    "on_miss": "synthesize",
    "device": "cpu",
}


class _SamplingHooks:
    """The sampling hooks of both libraries.

    They stand outside of the transform's own class body because AlbumentationsX refuses a
    transform that defines the older one there.
    """

    _sample: Callable[[Mapping[str, Any], random.Random], dict[str, Any]]
    py_random: random.Random

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        return self._sample(data, self.py_random)

    def sample_parameters(
        self, params: dict[str, Any], data: dict[str, Any], targets: Any, sampling: Any
    ) -> Any:
        return SampledParams(params=self._sample(data, sampling.py_random))


class RandomExpression(_SamplingHooks, ImageOnlyTransform):
    """Turn a face into the same person with another expression, and its label with it.

    Image and label change together or not at all: where the policy draws nothing, no face is
    found (nor could be, under 16 pixels a side), the gate rejects, or the scheme has no class for
    what was drawn, both stay as they are.
    Put it before every random and every normalising transform: a face that differs each time is
    never found in the cache.

    Targets:
        image: (H, W, 3) RGB, (H, W) or (H, W, 1) grey; uint8, or float in [0, 1]. Keeps shape and
            dtype.
        label: class index (int, NumPy integer, array or tensor without dimensions), or the data
            set's own class name. Keeps its type.

    Masks, boxes, keypoints and everything else pass through.

    Args:
        scheme: what the labels mean: name of a published scheme ("fer2013"), class names in index
            order, mapping from class name to expression (None: shows none; left alone), or a
            `LabelScheme`.
        synthesizer: name, folder or hub id, as `create_synthesizer` takes it.
        targets: names of the expressions to draw from, each as likely as any other; None for all
            that the synthesizer makes and the scheme has.
        policy: instead of targets: what `create_policy` takes, such as
            `{"balance": {"happy": 7215, "disgust": 436}}`.
        intensity: (low, high) in (0, 1].
        alignment: "crop" (images are face crops) or "detect" (photographs).
        gate: None or "identity".
        cache: folder of synthetic faces made before; None keeps nothing. Fill it with
            `transform.augmenter.warm(dataset, scheme)`.
        on_miss: what a face that is not cached means: "synthesize", "keep" or "error".
        device: where the synthesizer runs.
        label_key: keyword under which pipelines get the label.
        p: probability that the transform is applied.
        augmenter: a ready `ExpressionAugmenter` instead of the arguments from `synthesizer` to
            `device`. `to_dict` cannot write such a transform, and so (as with a nameless
            `A.Lambda`) a `Compose` that holds it cannot be printed.

    Attributes:
        scheme: the `LabelScheme`.
        augmenter: the `ExpressionAugmenter`.

    Raises:
        ValueError: an argument out of range, targets together with a policy, or an augmenter
            together with arguments for one.
        LabelError: an unknown scheme or expression, or a target that the scheme has no class for.
        UnsupportedExpressionError: a target that the synthesizer cannot make.
        MissingWeightsError: no such synthesizer.

    Calls raise ValueError where image or label is missing and on another kind of image, LabelError
    on a label outside the scheme or of another kind (one-hot, soft), and CacheMissError as
    `ExpressionAugmenter` does.

    Example:
        >>> import albumentations as A, numpy as np
        >>> from expraug.transforms.albumentations import RandomExpression
        >>> smile = RandomExpression("fer2013", targets=["happy"], p=1.0)
        >>> pipeline = A.Compose([smile, A.HorizontalFlip()])
        >>> neutral = np.full((48, 48, 3), 128, np.uint8)
        >>> pipeline(image=neutral, label=6)["label"]  # fer2013: 6 is neutral, 3 is happy
        3
    """

    _targets = (Targets.IMAGE,)

    def __init__(
        self,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None],
        synthesizer: str = "auto",
        targets: Sequence[str] | None = None,
        policy: Mapping[str, Any] | Policy | None = None,
        intensity: tuple[float, float] = (0.6, 1.0),
        alignment: str = "crop",
        gate: Literal["identity"] | None = None,
        cache: str | Path | None = None,
        on_miss: OnMiss = "synthesize",
        device: str = "cpu",
        label_key: str = "label",
        p: float = 0.5,
        augmenter: ExpressionAugmenter | None = None,
    ) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be in [0, 1], not {p}")
        if not label_key or label_key == "image":
            raise ValueError(f"label_key must name the label, not {label_key!r}")
        for_augmenter: dict[str, Any] = {
            "synthesizer": synthesizer,
            "targets": targets,
            "policy": policy,
            "intensity": intensity,
            "faces": faces,
            "gate": gate,
            "cache": cache,
            "on_miss": on_miss,
            "device": device,
        }
        for_augmenter = {name: _plain(value) for name, value in for_augmenter.items()}
        self.scheme = _resolve(scheme)
        chosen = policy_for(self.scheme, targets, policy)
        if augmenter is None:
            augmenter = ExpressionAugmenter(
                synthesizer,
                policy=chosen,
                intensity=(intensity[0], intensity[1]),
                alignment=alignment,
                gate=gate,
                cache=cache,
                on_miss=on_miss,
                device=device,
            )
            if targets is not None:
                augmenter.require([Expression.parse(t) for t in targets])
        elif given := [n for n, v in for_augmenter.items() if v != _AUGMENTER_DEFAULTS[n]]:
            raise ValueError(f"an augmenter brings its own {', '.join(given)}; give one of the two")
        else:
            for_augmenter = {"augmenter": augmenter}
        self.augmenter = augmenter
        # a mapping's order gives the class indices, and YAML writers sort keys: so, write pairs
        pairs = [[n, _plain(e)] for n, e in scheme.items()] if isinstance(scheme, Mapping) else None
        self._arguments = {
            "scheme": _plain(scheme) if pairs is None else pairs,
            **for_augmenter,
            "label_key": label_key,
        }
        self._worker_seed: int | None = None
        self.label_key = label_key  # before super().__init__, which reads `targets`
        super().__init__(p=p)

    # -- what the libraries ask for

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """Keys that the transform takes; `apply_with_params` works on both at once."""
        return {"image": self.apply, self.label_key: self.apply}

    def add_targets(self, additional_targets: dict[str, str]) -> None:
        """Refuse further images and labels: nothing would say which label belongs to which."""
        for key, like in additional_targets.items():
            if like in ("image", self.label_key):
                raise ValueError(
                    f"RandomExpression changes one image with its label, so it cannot share a "
                    f"Compose with the additional target {key!r} like {like!r}; call it before "
                    f"that Compose"
                )
        super().add_targets(additional_targets)

    def get_transform_init_args(self) -> dict[str, Any]:
        return dict(self._arguments)

    def to_dict_private(self) -> dict[str, Any]:
        """Return what `from_dict` needs, of JSON values only.

        Raises:
            NotImplementedError: made from an object that JSON cannot hold.
        """
        for name, value in self._arguments.items():
            try:
                json.dumps(value)
            except TypeError:
                instead = (
                    ", ".join(_AUGMENTER_DEFAULTS)
                    if name == "augmenter"
                    else "a name, or lists and mappings of names and numbers"
                )
                raise NotImplementedError(
                    f"RandomExpression cannot be written with {name}={value!r:.200}; "
                    f"instead of this {name} object, give {instead}"
                ) from None
        return super().to_dict_private()

    def get_dict_with_id(self) -> dict[str, Any]:
        # ReplayCompose keeps this in memory, where a ready augmenter may stand in it.
        return {**super().to_dict_private(), "id": id(self)}

    # -- random streams

    def set_random_state(self, *args: Any, **kwargs: Any) -> None:
        """Take over random generators; one given inside a worker is kept there as it is."""
        super().set_random_state(*args, **kwargs)
        self._worker_seed = torch.initial_seed() if get_worker_info() else None

    def __call__(self, *args: Any, force_apply: bool = False, **kwargs: Any) -> Any:
        if not _OWN_WORKER_SEEDS:
            self._reseed_in_worker()
        return super().__call__(*args, force_apply=force_apply, **kwargs)

    def _reseed_in_worker(self) -> None:
        """Give each DataLoader worker, in each epoch, a random stream of its own.

        Workers start with copies of one and the same generator, and 2.0.8 leaves it at that:
        all workers, and all epochs, would draw the same. As in AlbumentationsX, the stream follows
        from the pipeline's seed and the worker's.
        """
        if get_worker_info() is None or self._worker_seed == torch.initial_seed():
            return
        self._worker_seed = torch.initial_seed()
        seed = ((self.seed or 0) + self._worker_seed) % 2**32
        self.random_generator = np.random.default_rng(seed)
        self.py_random = random.Random(seed)

    # -- the work

    def _sample(self, data: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
        uniforms = np.array([[rng.random() for _ in range(3)]])
        source = self._source(data)
        draw = None if source is None else self.augmenter.draw([source], uniforms)[0]
        if draw is None or draw.target not in self.scheme:
            return {"target": None, "level": 0, "variant": 0}
        return {"target": str(draw.target), "level": draw.percent, "variant": draw.variant}

    def _source(self, data: Mapping[str, Any]) -> Expression | None:
        for key in ("image", self.label_key):
            if data.get(key) is None:
                raise ValueError(
                    f"RandomExpression needs the image and its label, and {key!r} is missing: "
                    f"call transform(image=..., {self.label_key}=...), or name another key with "
                    f"label_key"
                )
        return self.scheme.expression(_class(data[self.label_key], self.label_key))

    def apply_with_params(self, params: Any, *args: Any, **data: Any) -> dict[str, Any]:
        """Change image and label, or neither.

        The usual dispatch, one target after the other, is left aside: both hang on one outcome,
        a replay comes here without passing the sampling hook, and 2.0.8 takes a class name for a
        sequence without end.
        """
        drawn = params if isinstance(params, Mapping) else params.params
        if drawn["target"] is None:
            return data
        draw = SynthesisRequest(Expression.parse(drawn["target"]), drawn["level"], drawn["variant"])
        source = self._source(data)
        if source is None or draw.target not in self.augmenter.available(source):
            return data  # a replay on a face that cannot be turned into this target
        image, label = data["image"], data[self.label_key]
        try:
            pixels = _pixels(image)
        except UnreadableImageError as error:  # too small for a face: nothing to be done with it
            self.augmenter.stats[error.reason] += 1
            return data
        (outcome,) = self.augmenter([pixels], [draw])
        if outcome.target is None:
            return data
        changed = {
            "image": _like_image(image, pixels, outcome.image),
            self.label_key: self._like_label(label, outcome.target),
        }
        return data | changed

    def _like_label(self, label: Any, target: Expression) -> Any:
        index = self.scheme.index(target)
        if isinstance(label, str):
            return self.scheme.class_name(target)
        if isinstance(label, np.ndarray):
            return np.array(index, label.dtype)
        if isinstance(label, torch.Tensor):
            return label.new_tensor(index)
        return label.dtype.type(index) if isinstance(label, np.integer) else index


def _resolve(scheme: Any) -> LabelScheme:
    """Return a label scheme; also from the [class, expression] pairs that `to_dict` writes."""
    if isinstance(scheme, (list, tuple)) and all(isinstance(i, (list, tuple)) for i in scheme):
        scheme = dict(scheme)
    return LabelScheme.resolve(scheme)


def _plain(value: Any) -> Any:
    """Return the JSON form of an argument, and what has none as it is."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, (Expression, Path, torch.device)) else value


def _class(label: Any, key: str) -> int | str:
    """Return a class index or name.

    Raises:
        LabelError: anything else.
    """
    if isinstance(label, str):
        return label
    whole = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
    if isinstance(label, np.ndarray):
        whole = label.ndim == 0 and label.dtype.kind in "iu"
    elif isinstance(label, torch.Tensor):
        whole = label.ndim == 0 and not (label.is_floating_point() or label.dtype == torch.bool)
    if not whole:
        raise LabelError(
            f"{key} must be a class index or class name, not {label!r:.100}; one-hot and soft "
            f"labels cannot be used: make them after this transform"
        )
    return int(label)


def _pixels(image: Any) -> np.ndarray:
    """Return an image as the augmenter takes it.

    Raises:
        ValueError: no grey or RGB array, or floats outside [0, 1].
        UnreadableImageError: under 16 pixels a side.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be a NumPy array, not {type(image).__name__}")
    if image.dtype.kind == "f":
        low, high = image.min(initial=0), image.max(initial=0)
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # resizing may overshoot a little
            raise ValueError(
                f"a float image must be in [0, 1], not [{low:.3g}, {high:.3g}]; put "
                f"RandomExpression before Normalize"
            )
    return as_array(image)


def _like_image(image: np.ndarray, pixels: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return what was made of `pixels` in the shape and dtype of `image`, writable."""
    if image.dtype == np.uint8:
        return np.require(made.reshape(image.shape), requirements=["C", "W"])
    # floats take over the change, so that what did not change keeps its full precision
    change = made.astype(image.dtype) - pixels
    change = change.reshape(image.shape) / image.dtype.type(255)
    return np.where(change == 0, image, np.clip(image + change, 0, 1))
