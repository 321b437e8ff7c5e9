"""Weights on disk and on the hub: `model.safetensors`, and a `config.json` that describes it.

Synthesizers, FER classifiers and encoders are saved and loaded here. A folder may come from
anywhere, so everything in it is checked before it is used, and what fails is an
`InvalidWeightsError` that names the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from safetensors.torch import load, save_file
from torch import Tensor, nn

from expraug.errors import InvalidWeightsError, MissingDependencyError, MissingWeightsError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
EMBEDDED = Path(__file__).parent / "weights"
"""Folder of the embedded weights, one folder each."""
_MORE_PACKAGE = "expraug_weights"
_MORE = ("decoupled", "emotiongan", "fevgan")
"""Weights that the wheel leaves out: they are in a package of their own, `expraug[weights]`."""

_ADVICE = "Fetch the folder again, or write it anew with save_pretrained"
_LARGEST_CONFIG = 1 << 16  # bytes; those of ours have 1 kB
_HUB_TIMEOUT = 5.0  # seconds until a hub that does not answer counts as unreachable

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Description:
    """What `config.json` says of the weights beside it."""

    kind: str
    """What sort of network: "synthesizer", "fer_classifier" or "face_embedder"."""
    name: str
    """Of a synthesizer, the name that it is registered under."""
    version: str
    """Of the code that wrote it."""
    weights_sha256: str
    """Of `model.safetensors`, 64 hex digits."""
    config: dict[str, Any]
    """Arguments of the network's constructor, JSON values."""


def save_weights(
    network: nn.Module,
    folder: str | Path,
    *,
    kind: str,
    name: str,
    version: str,
    config: dict[str, Any],
    float32: Iterable[str] = (),
) -> Description:
    """Write a network into a folder, which is made if need be.

    Args:
        network: whose state dict is saved; floats as fp16.
        folder: gets `model.safetensors` and `config.json`.
        kind, name, version, config: as `Description` has them.
        float32: names in the state dict that keep their full precision.

    Raises:
        InvalidWeightsError: a value that is not finite, or too large for fp16.
    """
    folder, full = Path(folder), frozenset(float32)
    state = {}
    for key, tensor in network.state_dict().items():
        half = tensor.is_floating_point() and key not in full
        state[key] = (tensor.half() if half else tensor).detach().cpu().contiguous()
        if not _finite(state[key]):
            raise InvalidWeightsError(
                f"{key} is not finite{' in fp16' if _finite(tensor) else ''}: not saved to "
                f"{folder}. Did training diverge?"
            )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS_FILE)
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    description = Description(kind, name, version, digest, config)
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(description), indent=2) + "\n")
    return description


def load_weights(
    folder: Path, kind: str, network_class: Callable[[Description], type[Network]]
) -> tuple[Network, Description]:
    """Load a network that `save_weights` wrote, on the CPU, in float32, ready for inference.

    Args:
        folder: as `find_weights` returns it.
        kind: what it must be.
        network_class: which class to construct, given the description.

    Raises:
        MissingWeightsError: a file is not there.
        InvalidWeightsError: a file is damaged, or holds something else than it should.
        MissingDependencyError: as the constructor does.
    """
    description = read_description(folder, kind)
    state = _read_state(folder / WEIGHTS_FILE, description.weights_sha256)
    file = folder / CONFIG_FILE
    made_by = network_class(description)
    problem = _misfit(made_by, description.config)
    if problem:
        raise InvalidWeightsError(f"{file}: 'config' {problem}. {_ADVICE}")
    # sizes are compared before memory is taken for them: a wrong one could ask for petabytes
    with torch.device("meta"):
        outline = _construct(made_by, description.config, file)
    if outline is not None:
        _compare(state, outline.state_dict(), folder / WEIGHTS_FILE)
    with torch.random.fork_rng(devices=[]):  # to be overwritten: a caller's seed must hold
        network = _construct(made_by, description.config, file)
    assert network is not None
    if outline is None:
        _compare(state, network.state_dict(), folder / WEIGHTS_FILE)
    network.load_state_dict(
        {key: t.float() if t.is_floating_point() else t for key, t in state.items()}
    )
    return network.eval().requires_grad_(False), description


def load_own(
    kind: str, network_class: type[Network], folder: str | Path | None
) -> tuple[Network, Description]:
    """Load a network of one class, as `load_weights` does: from a folder, or None for the embedded
    one, which has the kind's name."""
    found = EMBEDDED / kind if folder is None else find_weights(folder)
    return load_weights(found, kind, lambda _: network_class)


def digest_of(module: nn.Module, config: Mapping[str, Any]) -> str:
    """Return 64 hexadecimal digits that change with any weight, its type, or the configuration."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(key.encode())
        values = tensor.detach().cpu().reshape(-1)  # a number alone has no bytes to view
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def embedded_weights() -> dict[str, Path]:
    """Return the folders of weights that are installed, by name: of this package, and of
    `expraug-weights` where it is there."""
    more = importlib.util.find_spec(_MORE_PACKAGE)
    roots = [Path(root) for root in (more and more.submodule_search_locations) or ()]
    return {
        file.parent.name: file.parent
        for root in (*roots, EMBEDDED)  # ours win
        for file in sorted(root.glob(f"*/{CONFIG_FILE}"))
    }


def find_weights(name_or_path: str | Path, revision: str | None = None) -> Path:
    """Return the folder of weights, downloaded if need be.

    Args:
        name_or_path: a folder that `save_weights` wrote; the name of embedded weights; or a
            Hugging Face hub id, "owner/name".
        revision: for a hub id, the full commit hash, 40 hex digits. Branches and tags move, so
            they are refused.

    Raises:
        MissingWeightsError: nothing there, or the hub cannot be reached.
    """
    name = str(name_or_path)
    if os.path.isfile(Path(name) / CONFIG_FILE):
        return Path(name)
    embedded = embedded_weights()
    if name in embedded:
        return embedded[name]
    if name in _MORE:
        raise MissingWeightsError(
            f"the weights of {name!r} are not installed: pip install 'expraug[weights]'"
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not os.path.exists(name):
        return _from_hub(name, revision)
    raise MissingWeightsError(
        f"no weights at {name!r}: not a folder with {CONFIG_FILE}, not embedded (embedded are "
        f"{sorted(embedded)}), and not a hub id like 'owner/name'"
    )


def read_description(folder: Path, kind: str) -> Description:
    """Read and check `config.json`.

    Raises:
        MissingWeightsError: no such file.
        InvalidWeightsError: it cannot be read, is no description, or is one of another kind.
    """
    file = folder / CONFIG_FILE
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST_CONFIG + 1)
        if len(text) > _LARGEST_CONFIG:
            raise ValueError(f"longer than {_LARGEST_CONFIG} bytes")
        found = json.loads(text, parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise MissingWeightsError(f"no {CONFIG_FILE} in {folder}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidWeightsError(f"{file} cannot be read as JSON ({error}). {_ADVICE}") from error
    problem = _misfit(Description, found) if isinstance(found, dict) else "is not a JSON object"
    if problem:
        raise InvalidWeightsError(
            f"{file} {problem}; it must hold {', '.join(f.name for f in fields(Description))}. "
            f"{_ADVICE}"
        )
    description = Description(**found)
    if description.kind != kind:
        raise InvalidWeightsError(f"{file} describes a {description.kind!r}, not a {kind!r}")
    return description


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _read_state(file: Path, sha256: str) -> dict[str, Tensor]:
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise MissingWeightsError(f"no {file.name} in {file.parent}. {_ADVICE}") from error
    except OSError as error:
        raise InvalidWeightsError(f"{file} cannot be read ({error}). {_ADVICE}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InvalidWeightsError(
            f"{file} does not have the sha256 that {CONFIG_FILE} records: damaged or incomplete. "
            f"{_ADVICE}"
        )
    try:
        return load(content)
    except Exception as error:  # safetensors raises several kinds, some of them its own
        raise InvalidWeightsError(f"{file} is no safetensors file ({error}). {_ADVICE}") from error


def _construct(network_class: type[Network], config: dict[str, Any], file: Path) -> Network | None:
    """Call the constructor; return None if it computes with values, which meta tensors lack."""
    try:
        return network_class(**config)
    except (MissingDependencyError, MissingWeightsError):
        raise
    except (Exception, SystemExit) as error:  # what a file says can make it fail in any way
        if isinstance(error, (NotImplementedError, RuntimeError)) and "meta" in str(error):
            return None
        raise InvalidWeightsError(
            f"{file}: 'config' does not fit {network_class.__name__}: {type(error).__name__}: "
            f"{error}. {_ADVICE}"
        ) from error


def _compare(state: dict[str, Tensor], wanted: dict[str, Tensor], file: Path) -> None:
    """Raise InvalidWeightsError unless all tensors have their names, shapes, types and values."""
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or extra:
        raise InvalidWeightsError(
            f"{file} does not hold the tensors that its {CONFIG_FILE} asks for: "
            f"{len(missing)} missing {missing[:3]}, {len(extra)} too many {extra[:3]}. {_ADVICE}"
        )
    for key, tensor in state.items():
        like = wanted[key]
        if tensor.shape != like.shape:
            problem = f"the shape {tuple(tensor.shape)}, where {CONFIG_FILE} asks for " + str(
                tuple(like.shape)
            )
        elif tensor.dtype != like.dtype and not (
            tensor.is_floating_point() and like.is_floating_point()
        ):
            problem = f"the type {tensor.dtype}, not {like.dtype}"
        elif not _finite(tensor):
            problem = "values that are not finite"
        else:
            continue
        raise InvalidWeightsError(f"{file}: {key} has {problem}. {_ADVICE}")


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def _from_hub(repository: str, revision: str | None) -> Path:
    """Return the folder of a pinned commit, out of the hub's local cache where it is there."""
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise MissingWeightsError(
            f"hub weights need a pinned commit (40 hex digits), not {revision!r}: "
            f"'{repository}@<commit>'"
        )
    import huggingface_hub as hub

    try:
        found = [
            hub.try_to_load_from_cache(repository, name, revision=revision)
            for name in (CONFIG_FILE, WEIGHTS_FILE)
        ]
        if not all(isinstance(path, str) for path in found):
            # downloads try a silent hub again and again and print it: ask once whether it is there
            hub.get_hf_file_metadata(
                hub.hf_hub_url(repository, CONFIG_FILE, revision=revision), timeout=_HUB_TIMEOUT
            )
            found = [
                hub.hf_hub_download(repository, name, revision=revision)
                for name in (CONFIG_FILE, WEIGHTS_FILE)
            ]
    except Exception as error:  # of the hub's client, its HTTP library or the system
        raise MissingWeightsError(
            f"could not fetch {repository}@{revision} from the hub "
            f"({str(error).strip() or type(error).__name__}); download the folder elsewhere and "
            f"give its path"
        ) from error
    return Path(str(found[0])).parent


def _misfit(constructed: type, arguments: Mapping[str, Any]) -> str:
    """Say what is wrong with JSON values as arguments of a class; "" if nothing is.

    Args:
        constructed: its constructor is annotated with the types that JSON has, and `Sequence`,
            `Mapping`, `Literal` and unions of them; other annotations are not looked at.
        arguments: by name.
    """
    try:
        inspect.signature(constructed).bind(**arguments)
    except TypeError as error:
        return f"has {error}"
    try:
        hints = get_type_hints(getattr(constructed, "__init__", None))
    except (NameError, TypeError):  # names that only a type checker imports
        return ""
    for name, value in arguments.items():
        if name in hints and not _fits(value, hints[name]):
            kind = getattr(hints[name], "__name__", hints[name])
            return f"has {name} = {_short(value)}, which is no {kind}"
    return ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is type(None):
        return value is None
    if hint is float:
        return type(value) in (int, float)
    if hint in (int, bool, str):
        return type(value) is hint  # True is no number here
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin in (Sequence, list):
        return isinstance(value, (list, tuple)) and all(_fits(v, inner[0]) for v in value)
    if origin in (Mapping, dict):
        return isinstance(value, Mapping) and all(_fits(v, inner[1]) for v in value.values())
    return True
