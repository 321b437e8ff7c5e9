"""`expand`: a set of labelled faces in, an ImageFolder of synthetic faces and a manifest out."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from expraug.augmenter import ExpressionAugmenter
from expraug.cache import SynthesisCache
from expraug.datasets.source import FaceSource, open_source, source_path
from expraug.errors import ExpraugError, MissingDependencyError, MissingWeightsError
from expraug.expand.local import LocalEngine, RecallingLocator
from expraug.expand.manifest import MANIFEST, ManifestWriter, Row, read_settings
from expraug.expand.plan import Plan, SchemeLike
from expraug.expand.writing import FORMATS, ImageFormat
from expraug.expressions import Expression
from expraug.faces.image import MAX_PIXELS
from expraug.faces.locate import Locator
from expraug.gate import Gate, IdentityGate
from expraug.synthesizer import Synthesizer

GateLike = Literal["auto", "identity"] | Gate | None


class SourceError(ExpraugError, OSError):
    """The source is no ImageFolder and no parquet file of labelled images."""

    reason = "source"


class DestinationError(ExpraugError, ValueError):
    """The destination lies in the source, or holds something else."""

    reason = "destination"


class DeviceError(ExpraugError, RuntimeError):
    """There is no such device here."""

    reason = "device"


@dataclass
class Report:
    """What `expand` did.

    Args:
        folder: the expanded set.
        made: synthetic faces made now.
        cached: synthetic faces that came from the cache.
        skipped: rows of the manifest that have no file, by reason.
        sources: sources by class folder.
        originals: sources that were copied along, by class folder.
        synthetic: synthetic faces by class folder.
        gate: what judged the synthetic faces, or why nothing did.
    """

    folder: Path
    made: int = 0
    cached: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    originals: Counter[str] = field(default_factory=Counter)
    synthetic: Counter[str] = field(default_factory=Counter)
    gate: str = ""

    @property
    def manifest(self) -> Path:
        """The manifest's path."""
        return self.folder / MANIFEST

    def count(self, row: Row) -> None:
        """Count a row of the manifest."""
        if row.file is None:
            self.skipped[row.reason] += 1
            return
        self.made += row.status == "made"
        self.cached += row.status == "cached"
        self.synthetic[row.file.split("/")[0]] += 1


def expand(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    synthesizer: str | Synthesizer = "pixel",
    targets: Sequence[Expression | str] | None = None,
    intensity: float | Sequence[float] = 1.0,
    variants: int = 1,
    seed: int = 0,
    scheme: SchemeLike | None = None,
    faces: str | Locator = "detect",
    gate: GateLike = "auto",
    cache: SynthesisCache | str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    num_workers: int | None = None,
    image_format: ImageFormat = "png",
    max_pixels: int = MAX_PIXELS,
    with_originals: bool = False,
    progress: bool = False,
) -> Report:
    """Make the synthetic faces of a whole set, as files.

    Writes `dest/<class>/<source stem>__<synthesizer>_<intensity>_<variant>.<format>`, where
    `<class>` is the source set's own name for the target expression if it has one, and
    `dest/manifest.parquet` (columns: `expraug.expand.Row`). What cannot be expanded (a class
    without expression, a target that cannot be made, no face, a file that is unreadable or too
    large, a face that the gate rejects) is listed there with its reason, and the work goes on. Of
    several faces in an image the largest is worked on. The same call gives the same bytes.

    One folder holds one expansion: the same call again replaces its files, a call with other
    settings is refused.

    Args:
        source: a folder with one sub-folder a class, or a parquet file with an image and a label
            column.
        dest: folder of the expanded set; made if need be.
        synthesizer: as `create_synthesizer` takes it, or a `Synthesizer`.
        targets: expressions to make; None: all that can be made of each source.
        intensity: one or several, each in [0.01, 1], in steps of 0.01.
        variants: how many for each target and intensity, from 1 to the synthesizer's number.
        seed: decides which variants are taken where the synthesizer has more of them.
        scheme: what the classes mean: None reads the expressions off their names; a published
            scheme ("fer2013"), whose class names or numbers they are; a `LabelScheme`; a mapping
            from class name to expression or None; or that as text, "0=angry,1=happy,2=none".
        faces: "detect" for photographs, "crop" for images that are face crops already, or a
            `Locator`.
        gate: "auto": the identity gate if its encoder's weights are there or can be downloaded,
            else none, which the report tells; "identity": the identity gate; a `Gate`; or None.
        cache: folder of a `SynthesisCache`, or one; None keeps nothing.
        device: where synthesizer and detector run.
        batch_size: faces a pass.
        num_workers: threads that decode, and as many that encode; None: one a core, at most 8.
        image_format: "png", "webp" (both lossless) or "jpeg" (quality 95).
        max_pixels: larger sources are skipped.
        with_originals: copy the sources along that can be read, byte for byte, under their class.
        progress: show a progress bar on stderr.

    Returns:
        The counts. After Ctrl-C, which is passed on, the manifest lists what was made until then.

    Raises:
        SourceError: no such source, or it is no set of labelled images.
        DestinationError: `dest` lies in the source or holds an expansion with other settings.
        LabelError: no class means an expression; the message says how to tell.
        UnsupportedExpressionError: a target or number of variants that the synthesizer lacks.
        MissingWeightsError, MissingDependencyError: of synthesizer, detector or gate.
        DeviceError: no such device.
        ValueError: another argument out of range.
        OSError: the destination cannot be written to.
    """
    if image_format not in FORMATS:
        raise ValueError(f"image_format must be one of {', '.join(FORMATS)}, not {image_format!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    folder = Path(dest)
    face_set = open_face_set(source)
    check_destination(source_path(os.fspath(source)), folder)
    check_device(device)
    chosen, note = choose_gate(gate)
    if isinstance(cache, (str, os.PathLike)):
        cache = SynthesisCache(cache)
    augmenter = ExpressionAugmenter(
        synthesizer,
        faces=faces,
        gate=chosen,
        cache=cache,
        device=device,
        batch_size=batch_size,
    )
    augmenter.locator = RecallingLocator(augmenter.locator)
    plan = Plan.create(
        augmenter,
        face_set.classes,
        scheme=scheme,
        targets=targets,
        intensity=intensity,
        variants=variants,
        seed=seed,
        listing=face_set.listing(),
    )
    settings = {
        "fingerprint": augmenter.fingerprint,
        "gate_threshold": getattr(chosen, "threshold", None),
        "classes": {name: e if e is None else str(e) for name, e in plan.expression_of.items()},
        "targets": [str(t) for t in plan.folders],
        "levels": plan.levels,
        "variants": variants,
        "seed": seed,
        "format": image_format,
        "max_pixels": max_pixels,
        "with_originals": with_originals,
    }
    check_settings(folder, settings)
    engine = LocalEngine(
        plan,
        augmenter,
        folder,
        image_format=image_format,
        with_originals=with_originals,
        max_pixels=max_pixels,
        num_workers=num_workers or min(os.cpu_count() or 1, 8),
    )
    report = Report(folder, gate=note)
    folder.mkdir(parents=True, exist_ok=True)
    with _progress(progress) as bar, ManifestWriter(folder, settings) as manifest:
        task = bar.add_task("expanding", total=len(face_set))

        def emit(row: Row) -> None:
            manifest.append(row)
            report.count(row)

        with nullcontext() if augmenter.cache is None else augmenter.cache.filling():
            engine.run(face_set, emit, lambda count: bar.advance(task, count))
    report.sources, report.originals = engine.sources, engine.originals
    return report


def _progress(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )


def open_face_set(source: str | os.PathLike[str]) -> FaceSource:
    """Open a source set; raises SourceError where `open_source` raises."""
    try:
        return open_source(os.fspath(source))
    except (OSError, ValueError) as error:
        raise SourceError(str(error)) from error


def check_destination(source: Path, dest: Path) -> None:
    """Raise DestinationError if the destination is a file or lies in the source set."""
    if dest.exists() and not dest.is_dir():
        raise DestinationError(f"{dest} is a file; give a folder")
    inside, outside = dest.resolve(), source.resolve()
    if outside.is_dir() and (inside == outside or outside in inside.parents):
        raise DestinationError(
            f"{dest} lies in the source set {source}, where synthetic faces would pass for real "
            f"ones; give a folder outside it"
        )


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raise DestinationError if the folder holds an expansion with other settings."""
    if not (folder / MANIFEST).exists():
        return
    there = read_settings(folder)
    if there is None:
        raise DestinationError(
            f"{folder / MANIFEST} is no manifest of an expansion; give another folder"
        )
    now = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    differing = sorted(k for k in there.keys() | now.keys() if there.get(k) != now.get(k))
    if differing:
        raise DestinationError(
            f"{folder} holds an expansion with another {', '.join(differing)}; give another "
            f"folder, or delete it"
        )


def check_device(device: str | torch.device) -> None:
    """Raise DeviceError if torch cannot use the device."""
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError and NotImplementedError
        raise DeviceError(f"device {str(device)!r} cannot be used: {error}") from error


def choose_gate(gate: GateLike) -> tuple[Gate | None, str]:
    """Return the gate to use, its weights loaded, and a line that says which, or why none."""
    if gate is None:
        return None, "off"
    if not isinstance(gate, str):
        return gate, gate.fingerprint
    if gate not in ("auto", "identity"):
        raise ValueError(f"gate must be 'auto', 'identity', None or a Gate, not {gate!r}")
    identity = IdentityGate()
    try:
        _ = identity.encoder
    except (MissingWeightsError, MissingDependencyError) as error:
        if gate == "identity":
            raise
        note = f"off, since its weights are missing: {error}"
        warnings.warn(f"identity gate {note}", stacklevel=3)
        return None, note
    return identity, f"{identity.fingerprint}, threshold {identity.threshold:.2f}"
