"""albumentations: `RandomExpression` changes an image and its label together.

Works with albumentations 2.0.8 and with its successor AlbumentationsX, whose hooks differ. A saved
pipeline finds the class only after this module was imported.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from expraug.cache import SynthesisCache
from expraug.errors import LabelError, MissingDependencyError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.detect import Detector
from expraug.gate import GateLike
from expraug.labels import LABEL_KEYS, SchemeLike, find_key
from expraug.pipeline import ExpressionAugmenter, OnMiss, SynthesisRequest
from expraug.pipeline.samples import augment_samples, request_of_sample
from expraug.policy import Policy
from expraug.synthesizer import Synthesizer
from expraug.transforms import AUGMENTER_DEFAULTS, augmenter_for
from expraug.transforms.labelled import ALONE, LabelledTransform, check_p, resolve_scheme, shown

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


class RandomExpression(LabelledTransform, _SamplingHooks, ImageOnlyTransform):  # type: ignore[misc]
    """Turn a face into the same person with another expression, and its label with it.

    Image and label change together or not at all: where nothing is asked for, no face is found
    (nor could be, under 16 pixels a side) or the gate rejects, both stay as they are. Put it
    before every random and every normalising transform: a face that differs each time is never
    found in the cache.

    Its targets are `image`, (H, W, 3) RGB, (H, W) or (H, W, 1) grey, uint8 or float in [0, 1],
    which keeps shape and dtype; and `label`, a class index (int, NumPy integer, array or tensor
    without dimensions), the data set's own class name, or a one-hot or soft vector over the classes
    (one-hot where it was changed), which keeps its type. Masks, boxes, keypoints and everything
    else pass through.

    Args:
        scheme: what the labels mean: name of a published scheme ("fer2013"), class names in index
            order, mapping from class name to expression (None: shows none; left alone), or a
            `LabelScheme`. None: `expraug.JointTransform` reads it off the data set.
        synthesizer: name, folder or hub id, as `create_synthesizer` takes it, or a `Synthesizer`.
        targets: the expressions to ask for, each as likely as any other; None for all that the
            synthesizer makes and the scheme has.
        policy: instead of targets: what `create_policy` takes, such as
            `{"balance": {"happy": 7215, "disgust": 436}}`.
        intensity: (low, high) in (0, 1].
        alignment: "crop" (images are face crops), "detect" (photographs), or a `Detector`.
        gate: None, "identity", "natural", or a `Gate`; see `expraug.gate.create_gate`.
        check_landmarks: refuse faces whose landmarks do not show what was asked, too.
        cache: folder of synthetic faces made before, or a `SynthesisCache`; None keeps nothing.
            Fill it with `transform.augmenter.warm(dataset, scheme)`.
        on_miss: what a face that is not cached means: "synthesize", "keep" or "error".
        per_image: number of requests that each image offers, at most.
        device: where the synthesizer runs.
        p: probability that the transform is applied.
        label_key: keyword under which pipelines get the label; None: the first of
            `expraug.labels.LABEL_KEYS` ("label", "labels", "expression", ...) that is there.
        augmenter: a ready `ExpressionAugmenter` instead of the arguments from `synthesizer` to
            `device`. `to_dict` cannot write such a transform, nor one made with a synthesizer,
            detector, gate or cache that is an object, and so (as with a nameless `A.Lambda`) a
            `Compose` that holds it cannot be printed.

    Attributes:
        scheme: the `LabelScheme`, or None.
        augmenter: the `ExpressionAugmenter`.

    Raises:
        ValueError: an argument out of range, targets together with a policy, or an augmenter
            together with arguments for one.
        LabelError: an unknown scheme or expression, or a target that the scheme has no class for.
        UnsupportedExpressionError: a target that the synthesizer cannot make.
        MissingWeightsError: no such synthesizer.

    Calls raise ValueError where image or label is missing and on another kind of image, LabelError
    on a label outside the scheme or that cannot be right, and CacheMissError as
    `ExpressionAugmenter` does.

    Examples:
        >>> import albumentations as A
        >>> import numpy as np
        >>> from PIL import Image
        >>> from expraug.transforms.albumentations import RandomExpression
        >>> smile = RandomExpression("fer2013", targets=["happy"], p=1.0)
        >>> pipeline = A.Compose([smile, A.HorizontalFlip()])
        >>> neutral = np.asarray(Image.open("examples/faces/neutral/london_008.jpg"))
        >>> pipeline(image=neutral, label=6)["label"]  # fer2013: 6 is neutral, 3 is happy
        3
    """

    _targets = (Targets.IMAGE,)

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
        label_key: str | None = None,
        augmenter: ExpressionAugmenter | None = None,
    ) -> None:
        check_p(p)
        if label_key in ("", "image"):
            raise ValueError(f"label_key must name the label, not {label_key!r}")
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
        self.scheme = _resolve(scheme)
        self.augmenter = augmenter_for(augmenter, self.scheme, **for_augmenter)
        made_with = for_augmenter if augmenter is None else {"augmenter": augmenter}
        self._arguments = {
            "scheme": _plain_scheme(scheme),
            **{name: _plain(value) for name, value in made_with.items()},
            "label_key": label_key,
        }
        self._worker_seed: int | None = None
        self.label_key = label_key  # before super().__init__, which reads `targets`
        super().__init__(p=p)

    def bind(self, scheme: LabelScheme) -> None:
        """Take over a data set's label scheme, or hold it against the one that was given."""
        super().bind(scheme)
        self._arguments["scheme"] = _plain_scheme(self._arguments["scheme"])

    # -- what the libraries ask for

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """Keys that the transform takes; `apply_with_params` works on both at once."""
        keys = LABEL_KEYS if self.label_key is None else (self.label_key,)
        return {"image": self.apply, **dict.fromkeys(keys, self.apply)}

    def add_targets(self, additional_targets: dict[str, str]) -> None:
        """Refuse further images and labels: nothing would say which label belongs to which."""
        for key, like in additional_targets.items():
            if like in self.targets:
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
                    ", ".join(AUGMENTER_DEFAULTS)
                    if name == "augmenter"
                    else "a name, or lists and mappings of names and numbers"
                )
                raise NotImplementedError(
                    f"RandomExpression cannot be written with {name}={value!r:.200}; "
                    f"instead of this {name} object, give {instead}"
                ) from None
        written: dict[str, Any] = super().to_dict_private()
        return written

    def get_dict_with_id(self) -> dict[str, Any]:
        # ReplayCompose keeps this in memory, where a ready augmenter may stand in it.
        return {**super().to_dict_private(), "id": id(self)}

    def __repr__(self) -> str:
        return f"RandomExpression({shown({**self._arguments, 'p': self.p})})"

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
        all workers, and all epochs, would sample the same. As in AlbumentationsX, the stream
        follows from the pipeline's seed and the worker's.
        """
        if get_worker_info() is None or self._worker_seed == torch.initial_seed():
            return
        self._worker_seed = torch.initial_seed()
        seed = ((self.seed or 0) + self._worker_seed) % 2**32
        self.random_generator = np.random.default_rng(seed)
        self.py_random = random.Random(seed)

    # -- the work

    def _sample(self, data: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
        """Return what is asked for, as small and plain as a replay wants it."""
        uniform = rng.random()
        image, label = data.get("image"), data.get(self._label_key_of(data))
        _check_image(image)
        scheme = self._scheme_of(label)

        def request(_: int, digest: bytes, source: Expression) -> SynthesisRequest | None:
            return self.augmenter.sample_request(digest, source, uniform, scheme)

        asked = request_of_sample(self.augmenter, scheme, image, label, request)
        if asked is None:
            return {"target": None, "percent": 0, "variant": 0}
        return {"target": str(asked.target), "percent": asked.percent, "variant": asked.variant}

    def _label_key_of(self, data: Mapping[str, Any]) -> str:
        keys = LABEL_KEYS if self.label_key is None else (self.label_key,)
        found = find_key(data, keys) or keys[0]
        for key in ("image", found):
            if data.get(key) is None:
                raise LabelError(
                    f"RandomExpression needs the image and its label, and {key!r} is missing: "
                    f"call transform(image=..., {found}=...), or name another key with label_key. "
                    + ALONE
                )
        return found

    def apply_with_params(self, params: Any, *args: Any, **data: Any) -> dict[str, Any]:
        """Change image and label, or neither.

        The usual dispatch, one target after the other, is left aside: both hang on one outcome,
        a replay comes here without passing the sampling hook, and 2.0.8 takes a class name for a
        sequence without end.
        """
        asked = params if isinstance(params, Mapping) else params.params
        if asked["target"] is None:
            return data
        request = SynthesisRequest(
            Expression.parse(asked["target"]), asked["percent"] / 100, asked["variant"]
        )
        key = self._label_key_of(data)
        image, label = data["image"], data[key]
        _check_image(image)
        scheme = self._scheme_of(label)
        # on another face, a replay may ask for what cannot be made of it: that is left alone
        (made,) = augment_samples(self.augmenter, scheme, [image], [label], lambda *_: request)
        return data | {"image": made.image, key: made.label}


def _check_image(image: Any) -> None:
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be a NumPy array, not {type(image).__name__}")


def _resolve(scheme: Any) -> LabelScheme | None:
    """Return a label scheme; also from the [class, expression] pairs that `to_dict` writes."""
    if isinstance(scheme, (list, tuple)) and all(isinstance(i, (list, tuple)) for i in scheme):
        scheme = dict(scheme)
    return resolve_scheme(scheme)


def _plain_scheme(scheme: Any) -> Any:
    """Return a scheme as JSON can hold it, and what it cannot hold as it is.

    A mapping's order gives the class indices, and YAML writers sort keys: so it becomes pairs.
    """
    if isinstance(scheme, LabelScheme) and list(scheme.classes) == list(range(len(scheme))):
        scheme = {name: scheme.expressions[i] for i, name in scheme.classes.items()}
    if isinstance(scheme, Mapping):
        return [[name, _plain(expression)] for name, expression in scheme.items()]
    return _plain(scheme)


def _plain(value: Any) -> Any:
    """Return the JSON form of an argument, and what has none as it is."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, (Expression, Path, torch.device)) else value
