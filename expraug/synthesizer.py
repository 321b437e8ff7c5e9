"""The synthesizer: base class and registry."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from expraug.errors import (
    InvalidWeightsError,
    MissingWeightsError,
    UnsupportedExpressionError,
    warn,
)
from expraug.expressions import Expression
from expraug.faces.synthesized import SynthesizedFaces
from expraug.networks.onset import onset
from expraug.pretrained import (
    CONFIG_FILE,
    Description,
    digest_of,
    embedded_weights,
    find_weights,
    load_weights,
    save_weights,
)

AUTO = "auto"
"""Stands for the default synthesizer."""
_DEFAULT = "transfer"
_KIND = "synthesizer"
_LARGEST_SIDE = 4096  # of `image_size`, which a folder from anywhere may ask for

_REGISTRY: dict[str, type[Synthesizer]] = {}
_BROKEN: dict[str, str] = {}  # plug-ins that could not be imported: name to why


class Synthesizer(nn.Module):
    """Turns a batch of aligned faces into target expressions.

    A subclass registers itself with `register_synthesizer`, sets `expressions` and `image_size`,
    passes its constructor arguments (JSON values only) to `super().__init__(**config)`, and
    implements `forward`; or `synthesize`, if it knows what moves, and `forward` with it.
    """

    name: ClassVar[str]
    """The name it is registered under."""
    version: ClassVar[str] = "1"
    """Raised whenever the same weights would give other pixels; part of every cache key."""
    float32: ClassVar[frozenset[str]] = frozenset()
    """Names in the state dict that `save_pretrained` keeps in full precision."""
    needs_landmarks: ClassVar[bool] = False
    """Whether `forward` also takes landmarks, as keyword arguments that the pipeline passes:
    `landmarks` (B, 478, 2) float, (x, y) in the canonical frame as fractions of its side;
    `blendshapes` (B, 52) float in [0, 1]; `pose` (B, 3) float, yaw, pitch and roll in degrees.
    Called without them it finds them itself, and leaves faces without landmarks unchanged."""

    size_agnostic: ClassVar[bool] = False
    """Whether `forward` takes faces of any side, S. The pipeline then gives it larger ones
    than `image_size`, twice or four times, up to 256 pixels, where the image has them: what moves
    at its own size would leave finer lines behind, as ghosts of a brow or a mouth."""

    expressions: tuple[Expression, ...]
    """What it can be asked for."""
    image_size: int
    """Side of the aligned faces it works on, in pixels."""
    variants: int = 1
    """How many different faces it can make for one request. If more than one, the pipeline
    passes `forward` the keyword argument `variant`: (B,) long, counted from 0."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        """Return the faces with their target expressions.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned, S = `image_size`.
            target: (B,) long, values of `Expression`.
            intensity: (B,) float in [0, 1]; 0 returns the source, 1 the full expression.

        Returns:
            (B, 3, S, S) float in [0, 1].

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    # *_ as well, so that a type checker lets subclasses do without what is passed on
    def synthesize(
        self, faces: Tensor, target: Tensor, intensity: Tensor, *_: Any, **inputs: Any
    ) -> SynthesizedFaces:
        """Return how the faces change: what the pipeline composites into the photograph.

        Here it is what `forward` adds to the faces, and nothing moves. A synthesizer that knows
        what moves returns its flow, so that the photograph's own pixels move, sharp and with their
        outline; its `forward` is then `self.synthesize(...).render(faces)`.

        Args:
            faces, target, intensity: as `forward` takes them.
            inputs: for a synthesizer that `needs_landmarks` or has `variants`, the keyword
                arguments of its `forward`; others need not take any.
        """
        return SynthesizedFaces(self(faces, target, intensity, **inputs) - faces)

    def clip(self, faces: Tensor, target: Tensor, frames: int, *_: Any, **inputs: Any) -> Tensor:
        """Return a sequence from the source to the full expression.

        Here frame k is what `forward` makes at the intensity that an expression has come to
        (`expraug.networks.onset`): slowly, then fast, then slowly again, and it stays.

        Args:
            faces, target: as `forward` takes them.
            frames: number of frames T, at least 2.
            inputs: as `synthesize` takes them.

        Returns:
            (B, T, 3, S, S) float in [0, 1]; the first frame is the source.
        """
        made = [self(faces, target, i, **inputs) for i in _intensities(faces, frames)]
        return torch.stack(made, dim=1)

    def synthesize_clip(
        self, faces: Tensor, target: Tensor, frames: int, *_: Any, **inputs: Any
    ) -> list[SynthesizedFaces]:
        """Return how the faces change in each frame of a `clip`, T in number.

        Args:
            faces, target, frames, inputs: as `clip` takes them.
        """
        if type(self).clip is not Synthesizer.clip:  # a subclass that makes clips its own way
            clip = self.clip(faces, target, frames, **inputs)
            return [SynthesizedFaces(frame - faces) for frame in clip.unbind(1)]
        return [self.synthesize(faces, target, i, **inputs) for i in _intensities(faces, frames)]

    def settle(self, target: Tensor, variant: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Return what is chosen by the look of a face, for all frames of a video to have the same.

        Here nothing is.

        Args:
            target: (B,) long, values of `Expression`.
            variant: (B,) long, counted from 0.
            inputs: landmarks, blendshapes and pose of the faces as they are on the whole, as
                `needs_landmarks` says.

        Returns:
            Further keyword arguments for `synthesize`, each with B rows.
        """
        return {}

    def supports(self, source: Expression | None, target: Expression) -> bool:
        """Say whether a face that shows `source` (None: unknown) can be turned into `target`."""
        return target in self.expressions and source != target

    def check_targets(self, target: Tensor) -> None:
        """Raise UnsupportedExpressionError, listing what there is, unless all can be made."""
        for value in set(target.tolist()) - {int(e) for e in self.expressions}:
            raise UnsupportedExpressionError(
                f"{self.name!r} cannot make {Expression.parse(value)}; "
                f"it can make {', '.join(map(str, self.expressions))}"
            )

    @property
    def fingerprint(self) -> str:
        """Name, version and a digest of weights and configuration; part of every cache key."""
        return f"{self.name}-{self.version}-{digest_of(self, self.config)[:16]}"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (floats as fp16, but for those in `float32`) and
        `config.json` into a folder.

        Raises:
            InvalidWeightsError: a value that is not finite, or too large for fp16.
        """
        save_weights(
            self,
            folder,
            kind=_KIND,
            name=self.name,
            version=self.version,
            config=self.config,
            float32=self.float32,
        )

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, revision: str | None = None
    ) -> Synthesizer:
        """Load a synthesizer with its weights.

        Args:
            name_or_path: a folder written by `save_pretrained`; the name of embedded weights
                (`list_synthesizers(pretrained=True)`); or a Hugging Face hub id, "owner/name".
            revision: for a hub id, the full 40-digit commit hash. Branches and tags move, so
                they are refused.

        Raises:
            MissingWeightsError: nothing there, or the hub cannot be reached.
            InvalidWeightsError: what is there is damaged, or no weights of this class.
        """
        folder = find_weights(name_or_path, revision)

        def class_of(description: Description) -> type[Synthesizer]:
            found = _registered(description.name, of=str(folder / CONFIG_FILE))
            if not issubclass(found, cls):
                raise InvalidWeightsError(
                    f"{folder} holds a {description.name!r}, not a {cls.__name__}"
                )
            return found

        model, _ = load_weights(folder, _KIND, class_of)
        if not 0 < model.image_size <= _LARGEST_SIDE:
            raise InvalidWeightsError(
                f"{folder / CONFIG_FILE}: image_size must be 1 to {_LARGEST_SIDE}, not "
                f"{model.image_size}"
            )
        return model


def _intensities(faces: Tensor, frames: int) -> list[Tensor]:
    """Return the intensity of B faces in each frame of a clip of usual speed, (B,) each."""
    curve = onset(torch.zeros(1, 2, device=faces.device), frames)[0]
    return [step.expand(len(faces)) for step in curve]


def register_synthesizer(name: str) -> Callable[[type[Synthesizer]], type[Synthesizer]]:
    """Class decorator: make a synthesizer known to `create_synthesizer` by name.

    Packages outside expraug also name their module in the entry-point group
    `expraug.synthesizers`, so that it is imported when it is asked for.

    Raises:
        ValueError: another class holds the name.
    """

    def register(model_class: type[Synthesizer]) -> type[Synthesizer]:
        holder = _REGISTRY.get(name)
        if holder is not None and _path(holder) != _path(model_class):
            raise ValueError(f"synthesizer name {name!r} is taken by {_path(holder)}")
        model_class.name = name
        _REGISTRY[name] = model_class
        return model_class

    return register


def create_synthesizer(name: str = AUTO, *, pretrained: bool = True, **config: Any) -> Synthesizer:
    """Create a synthesizer by name, as `timm.create_model` does for networks.

    Args:
        name: one of `list_synthesizers()`; "auto", see `resolve_name`; with `pretrained`, also a
            folder or "owner/name@commit" on the Hugging Face hub.
        pretrained: load weights. If False, a fresh one is built from `config`.
        **config: constructor arguments, for `pretrained=False` only.

    Raises:
        MissingWeightsError: no such synthesizer, or no weights for it.
        InvalidWeightsError: its weights are damaged, or are others.
        TypeError: `config` for pretrained weights, which bring theirs.
    """
    name = resolve_name(name)
    if not pretrained:
        return _registered(name)(**config)
    if config:
        raise TypeError(f"pretrained weights fix the configuration; drop {sorted(config)}")
    _import_plugins()
    if name in _BROKEN:
        _registered(name)  # says what is wrong with it
    repository, _, revision = name.rpartition("@")
    if not repository or Path(name).exists():  # a folder's name may have an @, too
        return Synthesizer.from_pretrained(name)
    return Synthesizer.from_pretrained(repository, revision=revision)


def resolve_name(name: str) -> str:
    """Return a synthesizer's name as it is, and for "auto" the default: `transfer`."""
    return _DEFAULT if name == AUTO else name


def list_synthesizers(*, pretrained: bool = False) -> list[str]:
    """Return the names of all registered synthesizers, or of those with embedded weights."""
    _import_plugins()
    if pretrained:
        return sorted(_REGISTRY.keys() & embedded_weights())
    return sorted(_REGISTRY)


def _path(model_class: type[Synthesizer]) -> str:
    return f"{model_class.__module__}.{model_class.__qualname__}"


@cache
def _import_plugins() -> None:
    """Register our own synthesizers, and those of plug-ins that can be imported."""
    import expraug.synthesizers  # noqa: F401

    for entry_point in entry_points(group="expraug.synthesizers"):
        before = dict(_REGISTRY)
        try:
            entry_point.load()
        except (Exception, SystemExit) as error:  # whatever somebody's module may do
            _REGISTRY.clear()
            _REGISTRY.update(before)  # a half imported module registers nothing
            why = f"{_origin(entry_point)} cannot be imported ({type(error).__name__}: {error})"
            _BROKEN[entry_point.name] = why
            warn(f"{why}. It is left out: mend or uninstall the package")


def _origin(entry_point: EntryPoint) -> str:
    package = f" of the package {entry_point.dist.name}" if entry_point.dist else ""
    return f"the synthesizer plug-in {entry_point.name!r} ({entry_point.value}){package}"


def _registered(name: str, of: str = "") -> type[Synthesizer]:
    """Return a class by name.

    Args:
        of: the file that names it, if any.
    """
    _import_plugins()
    if name in _REGISTRY:
        return _REGISTRY[name]
    message = f"no synthesizer {name!r}; there are {', '.join(sorted(_REGISTRY))}"
    if _BROKEN:
        message += f"; {_BROKEN.get(name) or '; '.join(_BROKEN.values())}"
    if of:
        raise InvalidWeightsError(f"{of}: {message}. Install the package that registers it")
    raise MissingWeightsError(message)
