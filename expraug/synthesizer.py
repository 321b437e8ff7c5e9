"""The synthesizer: base class, registry, and loading and saving of weights."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expraug.errors import MissingWeightsError, UnsupportedExpressionError
from expraug.expressions import Expression

AUTO = "auto"
"""Stands for the first of `_DEFAULTS` that can run here."""
_DEFAULTS = ("transfer", "unet_cgan")

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_EMBEDDED = Path(__file__).parent / "weights"
_REGISTRY: dict[str, type[Synthesizer]] = {}


class Synthesizer(nn.Module):
    """Turns a batch of aligned faces into target expressions.

    A subclass registers itself with `register_synthesizer`, sets `expressions` and `image_size`,
    passes its constructor arguments (JSON values only) to `super().__init__(**config)`, and
    implements `forward`.
    """

    name: ClassVar[str]
    """The name it is registered under."""
    version: ClassVar[str] = "1"
    """Raised whenever the same weights would give other pixels; part of every cache key."""
    float32: ClassVar[frozenset[str]] = frozenset()
    """Names in the state dict that `save_pretrained` keeps in full precision."""
    needs_landmarks: ClassVar[bool] = False
    """Whether `forward` also takes landmarks, as keyword arguments that the road passes:
    `landmarks` (B, 478, 2) float, (x, y) in the canonical frame as fractions of its side;
    `blendshapes` (B, 52) float in [0, 1]; `pose` (B, 3) float, yaw, pitch and roll in degrees.
    Called without them it finds them itself, and leaves faces without landmarks unchanged."""

    size_agnostic: ClassVar[bool] = False
    """Whether `forward` takes faces of any side, S. The road then gives it larger ones than
    `image_size`, twice or four times, up to 256 pixels, where the image has them: what moves at
    its own size would leave finer lines behind, as ghosts of a brow or a mouth."""

    expressions: tuple[Expression, ...]
    """What it can be asked for."""
    image_size: int
    """Side of the aligned faces it works on, in pixels."""
    variants: int = 1
    """How many different faces it can make for one request. If more than one, the road passes
    `forward` the keyword argument `variant`: (B,) long, counted from 0."""

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
    def clip(self, faces: Tensor, target: Tensor, frames: int, *_: Any, **inputs: Any) -> Tensor:
        """Return a sequence from the source to the full expression.

        Frame k shows what `forward` makes at intensity k / (T - 1).

        Args:
            faces, target: as `forward` takes them.
            frames: number of frames T, at least 2.
            inputs: for a synthesizer that `needs_landmarks` or has `variants`, the keyword
                arguments that the road passes its `forward`; others need not take any.

        Returns:
            (B, T, 3, S, S) float in [0, 1]; here, intensity rises evenly from 0 to 1.
        """
        steps = torch.linspace(0, 1, frames, device=faces.device)
        made = [self(faces, target, s.expand(len(faces)), **inputs) for s in steps]
        return torch.stack(made, dim=1)

    @classmethod
    def missing_requirements(cls) -> str:
        """Return what it needs besides its weights and cannot be had here; "" if nothing."""
        return ""

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
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(key.encode())
            values = tensor.detach().cpu().reshape(-1)  # a number alone has no bytes to view
            digest.update(values.view(torch.uint8).numpy().tobytes())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:16]}"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (floats as fp16, but for those in `float32`) and
        `config.json` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            key: (t.half() if t.is_floating_point() and key not in self.float32 else t)
            .detach()
            .cpu()
            .contiguous()
            for key, t in self.state_dict().items()
        }
        save_file(state, folder / WEIGHTS_FILE)
        description = {
            "synthesizer": self.name,
            "version": self.version,
            "weights_sha256": _sha256(folder / WEIGHTS_FILE),
            "config": self.config,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")

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
            MissingWeightsError: nothing there, or the file's sha256 is not the recorded one.
        """
        folder = _locate(str(name_or_path), revision)
        description = json.loads((folder / CONFIG_FILE).read_text())
        weights = folder / WEIGHTS_FILE
        if _sha256(weights) != description["weights_sha256"]:
            raise MissingWeightsError(
                f"{weights} does not have the sha256 that {CONFIG_FILE} records: damaged or "
                f"incomplete. Fetch it again"
            )
        model_class = _registered(description["synthesizer"])
        if not issubclass(model_class, cls):
            raise MissingWeightsError(
                f"{name_or_path} holds a {description['synthesizer']!r}, not a {cls.__name__}"
            )
        model = model_class(**description["config"])
        model.load_state_dict(
            {
                key: t.float() if t.is_floating_point() else t
                for key, t in load_file(weights).items()
            }
        )
        return model.eval().requires_grad_(False)


def register_synthesizer(name: str) -> Callable[[type[Synthesizer]], type[Synthesizer]]:
    """Class decorator: make a synthesizer known to `create_synthesizer` by name.

    Packages outside expraug also name their module in the entry-point group
    `expraug.synthesizers`, so that it is imported when it is asked for.

    Raises:
        ValueError: another class holds the name.
    """

    def register(model_class: type[Synthesizer]) -> type[Synthesizer]:
        holder = _REGISTRY.get(name)
        if holder is not None and holder.__qualname__ != model_class.__qualname__:
            raise ValueError(f"synthesizer name {name!r} is taken by {holder.__qualname__}")
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
    """
    name = resolve_name(name)
    if not pretrained:
        return _registered(name)(**config)
    if config:
        raise TypeError(f"pretrained weights fix the configuration; drop {sorted(config)}")
    repository, _, revision = name.partition("@")
    return Synthesizer.from_pretrained(repository, revision=revision or None)


def resolve_name(name: str) -> str:
    """Return a synthesizer's name as it is, and for "auto" the best that can run here.

    That is `transfer` where its landmarks can be had (the model file is downloaded once if need
    be), else `unet_cgan`, with a warning that says what `transfer` needs.
    """
    if name != AUTO:
        return name
    best, fallback = _DEFAULTS
    lacking = _registered(best).missing_requirements()
    if not lacking:
        return best
    warnings.warn(
        f"{best!r} cannot run here, so {fallback!r} takes its place: {lacking}. Name the "
        "synthesizer that you want to be rid of this warning",
        stacklevel=3,
    )
    return fallback


def list_synthesizers(*, pretrained: bool = False) -> list[str]:
    """Return the names of all registered synthesizers, or of those with embedded weights."""
    _import_plugins()
    if pretrained:
        return sorted(n for n in _REGISTRY if (_EMBEDDED / n / CONFIG_FILE).is_file())
    return sorted(_REGISTRY)


@cache
def _import_plugins() -> None:
    import expraug.synthesizers  # noqa: F401  (registers our own)

    for entry_point in entry_points(group="expraug.synthesizers"):
        entry_point.load()


def _registered(name: str) -> type[Synthesizer]:
    _import_plugins()
    if name not in _REGISTRY:
        raise MissingWeightsError(f"no synthesizer {name!r}; there are {list_synthesizers()}")
    return _REGISTRY[name]


def _locate(name: str, revision: str | None) -> Path:
    if (Path(name) / CONFIG_FILE).is_file():
        return Path(name)
    if (_EMBEDDED / name / CONFIG_FILE).is_file():
        return _EMBEDDED / name
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists():
        return _download(name, revision)
    raise MissingWeightsError(
        f"no weights at {name!r}: not a folder with {CONFIG_FILE}, not embedded (embedded are "
        f"{list_synthesizers(pretrained=True)}), and not a hub id like 'owner/name'"
    )


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise MissingWeightsError(
            f"hub weights need a pinned commit (40 hex digits), not {revision!r}: "
            f"'{repository}@<commit>'"
        )
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE]
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingWeightsError(
            f"could not fetch {repository}@{revision} from the hub ({error}); download the folder "
            f"elsewhere and give its path"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )
