"""What `expand` can be told. Signature, command line and settings of a set all come from here.

Imports nothing heavy: `expraug expand --help` reads it.
"""

# ruff: noqa: RUF009  (`option` is `dataclasses.field` with metadata)

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from expraug.expressions import PUBLISHED_SCHEMES, Expression, LabelScheme
from expraug.units import parse_bytes

if TYPE_CHECKING:
    import torch

    from expraug.cache import SynthesisCache
    from expraug.faces.detect import Detector
    from expraug.gate import GateLike
    from expraug.synthesizer import Synthesizer

SchemeLike = LabelScheme | str | Mapping[str, str | None]
WriteKind = Literal["folder", "webdataset", "parquet"]
ImageFormat = Literal["png", "jpeg", "webp"]
EngineName = Literal["local", "ray"]

CHUNK_SIZES: dict[WriteKind, int] = {"folder": 64, "webdataset": 512, "parquet": 512}
"""Sources of a chunk, unless the user says otherwise: a tar or parquet file holds one chunk."""


def option(default: Any, text: str, *, python: str = "", decides: bool = False, **cli: Any) -> Any:
    """Return a field of an options class.

    Args:
        default: its value if nothing is said.
        text: what it means, for Python and the command line alike.
        python: what more there is to say in Python.
        decides: whether it decides on the bytes of an expanded set: another value asks for another
            set.
        cli: for the command line: `flag`, where it is called otherwise; `parse`, from its text;
            `choices`; `min`; `max`; `metavar`; `shown`, the default as text; `hidden`,
            where it has no such option.
    """
    return field(
        default=default, metadata={"text": text, "python": python, "decides": decides, "cli": cli}
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _targets(text: str) -> list[str] | None:
    return None if text == "all" else _words(text)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in _words(text)]


def _gate(name: str) -> str | None:
    return None if name == "none" else name


@dataclass(frozen=True, kw_only=True)
class ExpandOptions:
    """Settings of an expansion; each says at its definition what it means.

    Raises:
        ValueError: a value out of range, or two that exclude each other.
    """

    synthesizer: str | Synthesizer = option(
        "auto",
        "Name (see `expraug list`), folder, or owner/name@commit on the hub; auto: transfer.",
        python="Or a `Synthesizer`.",
        decides=True,
    )
    targets: Sequence[Expression | str] | None = option(
        None,
        "Expressions to make, as happy,sad. Default: all that the source set has a class for. "
        "Others must be named; they add classes, which a warning tells.",
        decides=True,
        parse=_targets,
        metavar="NAMES",
    )
    intensity: float | Sequence[float] | None = option(
        None,
        "From 0.01 to 1, in steps of 0.01; several as 0.5,1.0. Default: 1.0.",
        decides=True,
        parse=_numbers,
        metavar="NUMBERS",
    )
    frames: int | None = option(
        None,  # becomes `intensity`
        "Instead of intensities: this many frames of one clip for each target, 1 to 100. Frame k "
        "of N has intensity k/N, in whole percent; frame 0, the source, is left out.",
        min=1,
        max=100,
    )
    variants: int = option(
        1, "How many for each target and intensity, up to the synthesizer's number.", decides=True,
        min=1,
    )  # fmt: skip
    balance: bool = option(
        False, "Fill each class up to the size of the largest, and no further.", decides=True
    )
    per_class: int | None = option(None, "Synthetic faces per class at most.", decides=True, min=1)
    max_per_source: int | None = option(
        None, "Synthetic faces per source at most.", decides=True, min=1
    )
    seed: int = option(
        0,
        "Decides which variants are taken where the synthesizer has more, and which sources where "
        "not all are needed.",
        decides=True,
    )
    scheme: SchemeLike | None = option(
        None,
        "What the classes mean, where their names are no expression words: a published scheme, "
        f"whose class names or numbers they are ({', '.join(PUBLISHED_SCHEMES)}), or pairs, as "
        "0=angry,1=happy,2=none.",
        python="Or a `LabelScheme`, or a mapping from class name to expression or None.",
        decides=True,
    )
    shows: Expression | str | None = option(
        None,
        "What all faces show, as neutral, where SOURCE is an image or a folder of images without "
        "classes.",
        decides=True,
        metavar="NAME",
    )
    alignment: str | Detector = option(
        "crop",
        "crop: the images are face crops already; detect: photographs. Of several faces the "
        "largest is changed.",
        python="Or a `Detector`.",
        decides=True,
        choices=("crop", "detect"),
    )
    gate: GateLike = option(
        "identity",
        "identity: reject faces that are no longer the same person; natural: also those in which "
        "the target is seen less clearly than in nine of ten real faces of it.",
        python="Or a `Gate`; None for none.",
        decides=True,
        parse=_gate,
        choices=("identity", "natural", "none"),
    )
    check_landmarks: bool = option(
        True,
        "Refuse faces whose landmarks did not move from the source's expression towards the "
        "target.",
        decides=True,
        flag="--check-landmarks/--no-check-landmarks",
    )
    cache: SynthesisCache | str | os.PathLike[str] | None = option(
        None,
        "Keep synthetic faces in this folder for next time.",
        python="Or a `SynthesisCache`.",
        metavar="DIR",
    )
    device: str | torch.device = option("cpu", "Where it runs: cpu, cuda, cuda:1, mps, ...")
    batch_size: int | None = option(None, "Faces per batch. Default: 64, or 8 on the CPU.", min=1)
    num_workers: int | None = option(
        None,
        "Threads that decode, and as many that encode, in each process. Default: one per core, at "
        "most 8, shared among the processes; with Ray 1, or 4 beside a GPU.",
        min=1,
    )
    write: WriteKind = option(
        "folder",
        "Class folders, tar shards (WebDataset), or parquet files in the image format of "
        "`datasets`.",
        decides=True,
        choices=get_args(WriteKind),
    )
    image_format: ImageFormat = option(
        "png",
        "Format of the synthetic faces; png and webp lose nothing, jpeg has quality 95.",
        decides=True,
        flag="--format",
        choices=get_args(ImageFormat),
    )
    with_originals: bool = option(
        False, "Copy the originals along, byte for byte, under their class.", decides=True
    )
    max_pixels: int = option(64_000_000, "Larger images are skipped.", decides=True, min=1)
    max_bytes: int = option(
        256 << 20,
        "Larger image files are skipped, as 500M or 2G.",
        decides=True,
        flag="--max-file-size",
        parse=parse_bytes,
        shown="268435456",
        metavar="SIZE",
    )
    exclude: str | os.PathLike[str] | None = option(
        None,
        "List of faces that are not made, as `expraug review` exports it.",
        decides=True,
        metavar="LIST",
    )
    license: str | None = option(
        None, "Licence of the source set, as cc-by-4.0; for the data card."
    )
    chunk_size: int | None = option(
        None,
        "Sources that are done or not done as one, and that one tar or parquet file holds. "
        "Default: 64 in folders, else 512.",
        decides=True,
        min=1,
    )
    overwrite: bool = option(
        False,
        "Delete the expanded set in DEST and make it anew, also with other settings. Without it "
        "the same command goes on where it was interrupted.",
    )
    shard: str | tuple[int, int] | None = option(
        None, "Do the I-th of N shares, counted from 0, of one set. Whichever of the N runs is the "
        "last to finish completes the set.", metavar="I/N",
    )  # fmt: skip
    engine: EngineName = option(
        "local", "This machine, or actors of Ray Data (expraug[ray]).", choices=get_args(EngineName)
    )
    processes: int | None = option(
        None, "Processes, or Ray actors. Default: 1; with Ray what the cluster has.", min=1
    )
    ray_address: str | None = option(
        None, "Address of the Ray cluster. Default: RAY_ADDRESS, or one on this machine."
    )
    dry_run: bool = option(False, "Show what would be made, and make nothing.")
    progress: bool = option(False, "Show a progress bar on stderr.", hidden=True)

    def __post_init__(self) -> None:
        for f in fields(self):
            value, cli = getattr(self, f.name), f.metadata["cli"]
            if isinstance(value, str) and "choices" in cli and value not in cli["choices"]:
                choices = ", ".join(cli["choices"])
                raise ValueError(f"{f.name} must be one of {choices}, not {value!r}")
            low, high = cli.get("min", float("-inf")), cli.get("max", float("inf"))
            if isinstance(value, int) and not low <= value <= high:
                most = f" and at most {high}" if "max" in cli else ""
                raise ValueError(f"{f.name} must be at least {low}{most}, not {value}")
        if self.frames is not None and self.intensity is not None:
            raise ValueError("give intensity or frames, not both: frames rise to full intensity")
        if self.overwrite and self.shard is not None:
            raise ValueError(
                "overwrite would delete what other shards have made: delete the folder yourself, "
                "then run them all"
            )

    def filled_in(self) -> ExpandOptions:
        """Return the same with numbers for what is None because it depends on something else."""
        intensity = self.intensity
        if self.frames is not None:  # evenly, so that no frame repeats another
            intensity = [round(100 * k / self.frames) / 100 for k in range(1, self.frames + 1)]
        return replace(
            self,
            intensity=1.0 if intensity is None else intensity,
            frames=None,
            batch_size=self.batch_size or (8 if str(self.device) == "cpu" else 64),
            chunk_size=self.chunk_size or CHUNK_SIZES[self.write],
            num_workers=self.num_workers or self._threads(),
        )

    def _threads(self) -> int:
        if self.engine == "ray":
            return 4 if str(self.device).startswith("cuda") else 1
        return max(1, min(os.cpu_count() or 1, 8) // (self.processes or 1))

    def settings(self, **resolved: Any) -> dict[str, Any]:
        """Return, as JSON values, what decides on the bytes of an expanded set.

        Args:
            resolved: what values that are names or objects stand for, by option; and more.
        """
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["decides"]}
        return own | resolved


_Options = TypeVar("_Options")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def changed(options: _Options | None, kind: type[_Options], changes: dict[str, Any]) -> _Options:
    """Return options of a kind with changes; TypeError names one that there is not."""
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for name in changes:
        if name not in known:
            raise TypeError(f"no option is called {name!r}; there are {', '.join(known)}")
    return replace(options, **changes) if options is not None else kind(**changes)  # type: ignore[type-var]


def takes(kind: type[Any]) -> Callable[[_Function], _Function]:
    """Decorator: show the options of a kind in a function's signature and documentation.

    The function takes `**changes` last; the documentation has `{options}` where they belong.
    """

    def decorate(function: _Function) -> _Function:
        own = list(inspect.signature(function).parameters.values())[:-1]
        keyword = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(f.name, keyword, default=f.default, annotation=f.type)
            for f in fields(kind)
        ]
        function.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        told = "\n".join(f"        {f.name}: {_told(f)}" for f in fields(kind))
        function.__doc__ = (function.__doc__ or "").replace("        {options}", told)
        return function

    return decorate


def _told(option: Field[Any]) -> str:
    return " ".join(filter(None, (option.metadata["text"], option.metadata["python"])))
