"""`expand`: a set of labelled faces in, its synthetic faces and a manifest out."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from expraug.cache import SynthesisCache
from expraug.datasets.source import Listed, source_path
from expraug.expand.card import write_card
from expraug.expand.checks import (
    GateLike,
    check_destination,
    check_device,
    choose_gate,
    open_face_set,
    parse_shard,
)
from expraug.expand.naming import safe_name
from expraug.expand.parts import Parts
from expraug.expand.plan import Plan, SchemeLike, clip_intensities
from expraug.expand.quota import Quota
from expraug.expand.report import Report
from expraug.expand.work import CHUNK_SIZES, Work
from expraug.expand.writers import KINDS, WriteKind
from expraug.expressions import Expression
from expraug.faces.detect import Detector
from expraug.faces.image import MAX_FILE_BYTES, MAX_PIXELS
from expraug.faces.image_file import FORMATS, ImageFormat
from expraug.pipeline import ExpressionAugmenter
from expraug.pipeline.memo import MemoizedDetector
from expraug.synthesizer import Synthesizer

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")


class Engine(Protocol):
    """Carries out chunks of a `Work`."""

    def run(self, chunks: Sequence[int], advance: Callable[[int], None]) -> None:
        """Expand these chunks; `advance` is called with numbers of sources that are done."""
        ...


def expand(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    synthesizer: str | Synthesizer = "auto",
    targets: Sequence[Expression | str] | None = None,
    intensity: float | Sequence[float] | None = None,
    frames: int | None = None,
    variants: int = 1,
    balance: bool = False,
    per_class: int | None = None,
    max_per_source: int | None = None,
    seed: int = 0,
    scheme: SchemeLike | None = None,
    alignment: str | Detector = "crop",
    gate: GateLike = "auto",
    cache: SynthesisCache | str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    batch_size: int | None = None,
    num_workers: int | None = None,
    write: WriteKind = "folder",
    image_format: ImageFormat = "png",
    with_originals: bool = False,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_FILE_BYTES,
    license: str | None = None,
    chunk_size: int | None = None,
    resume: bool = False,
    shard: str | tuple[int, int] | None = None,
    engine: EngineName = "local",
    processes: int | None = None,
    ray_address: str | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> Report:
    """Make the synthetic faces of a whole set, as files.

    Writes `dest/<class>/<source stem>__<synthesizer>_<intensity>_<variant>.<format>`, where
    `<class>` is the source set's own name for the target expression if it has one (or the tar or
    parquet files that `write` asks for); `dest/manifest.parquet` (columns: `expraug.expand.Row`);
    and a data card, `dest/README.md`, with a contact sheet. What cannot be expanded (a class
    without expression, a target that cannot be made, no face, a file that is unreadable or too
    large, a face that the gate rejects) is listed in the manifest with its reason, and the work
    goes on. Of several faces in an image the largest is worked on.

    The same call gives the same bytes, however the work is split and how often it is interrupted;
    but for `status` in the manifest, which with a `cache` says what came from it. The set is
    worked on in chunks. While some are missing, `dest/.expraug` says which are done, and there is
    no manifest: a set with a manifest is complete.

    One folder holds one expansion: the same call again makes it anew (or, with `resume`, what is
    missing of it); a call with other settings is refused.

    Args:
        source: a folder with one sub-folder a class, or a parquet file with an image and a label
            column.
        dest: folder of the expanded set; made if need be.
        synthesizer: as `create_synthesizer` takes it, or a `Synthesizer`.
        targets: expressions to make; None: all that can be made of each source.
        intensity: one or several, each in [0.01, 1], in steps of 0.01; None: 1, or what `frames`
            asks for.
        frames: instead of intensities: this many frames of one clip for each source and target,
            from 1 to 100. Frame k of N has the intensity k / N, in whole percent, which tells it
            in file names and manifest; frame 0, the source, is left out.
        variants: how many for each target and intensity, from 1 to the synthesizer's number.
        balance, per_class, max_per_source: how many are made; see `Quota`.
        seed: decides which variants are taken where the synthesizer has more of them, and which
            sources where not all are needed.
        scheme: what the classes mean: None reads the expressions off their names; a published
            scheme ("fer2013"), whose class names or numbers they are; a `LabelScheme`; a mapping
            from class name to expression or None; or that as text, "0=angry,1=happy,2=none".
        alignment: "detect" for photographs, "crop" for images that are face crops already, or a
            `Detector`.
        gate: "auto": the identity gate if its encoder's weights are there or can be downloaded,
            else none, which the report tells; "identity": the identity gate; a `Gate`; or None.
        cache: folder of a `SynthesisCache`, or one; None keeps nothing.
        device: where synthesizer and detector run.
        batch_size: faces a pass; None: 64, or 8 on the CPU, which is faster there.
        num_workers: threads that decode, and as many that encode, in each process; None: one a
            core, at most 8, shared among the processes; with Ray 1, or 4 beside a GPU.
        write: "folder" (an ImageFolder), "webdataset" (tar shards) or "parquet" (the image format
            of `datasets`).
        image_format: "png", "webp" (both lossless) or "jpeg" (quality 95).
        with_originals: copy the sources along that can be read, byte for byte, under their class.
        max_pixels, max_bytes: sources with more pixels, or in larger files, are skipped.
        license: of the source set, as the Hugging Face hub spells it; for the data card.
        chunk_size: sources of a chunk: what a kill can cost each process, and what one tar or
            parquet file holds; None: 64 in folders, else 512.
        resume: go on where an earlier run with the same settings was interrupted.
        shard: "i/n" or (i, n), counted from 0: do the i-th of n shares of the chunks. Whichever of
            the n runs is the last to finish completes the set.
        engine: "local", or "ray": see `RayEngine`.
        processes: how many processes of the local engine (None: this one), or actors of Ray (None:
            as many as there is room for).
        ray_address: of the Ray cluster.
        dry_run: count what would be made, and make nothing.
        progress: show a progress bar on stderr.

    Returns:
        The counts of what is there, also of what an earlier run or other shards have made.

    Raises:
        SourceError: no such source, or it is no set of labelled images.
        DestinationError: `dest` lies in the source or holds an expansion with other settings.
        LabelError: no class means an expression; the message says how to tell.
        UnsupportedExpressionError: a target or number of variants it does not have.
        MissingWeightsError, MissingDependencyError: of synthesizer, detector, gate or Ray.
        DeviceError: no such device.
        WorkerDiedError: a worker process was killed; `resume` goes on.
        ValueError: another argument out of range.
        OSError: the destination cannot be written to.
    """
    if frames is not None:
        if intensity is not None:
            raise ValueError("give intensity or frames, not both: frames rise to full intensity")
        intensity = clip_intensities(frames)
    _check_choice("image_format", image_format, FORMATS)
    _check_choice("write", write, KINDS)
    _check_choice("engine", engine, ENGINES)
    chunk_size = CHUNK_SIZES[write] if chunk_size is None else chunk_size
    if batch_size is None:
        batch_size = 8 if str(device) == "cpu" else 64
    for name, value in [("batch_size", batch_size), ("chunk_size", chunk_size)]:
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    quota = Quota(balance, per_class, max_per_source)
    number, shards = parse_shard(shard)
    folder = Path(dest)
    face_set = open_face_set(source)
    check_destination(source_path(os.fspath(source)), folder)
    on_ray_gpu = engine == "ray" and str(device).startswith("cuda")
    if not on_ray_gpu:  # there, the actors have GPUs and this process may have none
        check_device(device)
    chosen, note = choose_gate(gate)
    if isinstance(cache, (str, os.PathLike)):
        cache = SynthesisCache(cache)
    create = partial(
        ExpressionAugmenter,
        synthesizer,
        alignment=alignment,
        gate=chosen,
        cache=cache,
        batch_size=batch_size,
    )
    augmenter = create(device="cuda" if on_ray_gpu else device)
    augmenter.detector = MemoizedDetector(augmenter.detector)
    listing = face_set.listing()
    plan = Plan.create(
        augmenter,
        face_set.classes,
        scheme=scheme,
        targets=targets,
        intensity=1.0 if intensity is None else intensity,
        variants=variants,
        seed=seed,
        listing=listing,
        quota=quota if quota else None,
    )
    report = Report(folder, gate=note)
    if dry_run:
        _count_plan(report, plan, listing, with_originals)
        return report
    settings = {
        "fingerprint": augmenter.fingerprint,
        "gate_threshold": getattr(chosen, "threshold", None),
        "listing": _digest(listing),
        "classes": {name: e if e is None else str(e) for name, e in plan.expression_of.items()},
        "targets": [str(t) for t in plan.folders],
        "levels": plan.levels,
        "variants": variants,
        "quota": asdict(quota),
        "seed": seed,
        "write": write,
        "format": image_format,
        "max_pixels": max_pixels,
        "max_bytes": max_bytes,
        "with_originals": with_originals,
        "chunk_size": chunk_size,
    }
    del listing
    parts = Parts(folder, -(-len(face_set) // chunk_size), settings)
    parts.check()
    work = Work(
        face_set,
        plan,
        augmenter,
        parts,
        chunk_size,
        write=write,
        image_format=image_format,
        with_originals=with_originals,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        num_workers=num_workers or _threads(engine, augmenter.device, processes),
    )
    runner = _engine(work, engine, processes, ray_address)
    chunks = parts.begin(range(number, parts.chunks, shards), resume=resume)
    with _progress(progress) as bar:
        task = bar.add_task("expanding", total=sum(len(work.indices(c)) for c in chunks))
        runner.run(chunks, lambda count: bar.advance(task, count))

    def describe() -> None:
        report.read(parts, plan)
        elsewhere = on_ray_gpu and not torch.cuda.is_available()
        write_card(work, report, create(device="cpu") if elsewhere else augmenter, license)

    parts.finish(describe)
    report.read(parts, plan)
    return report


def _engine(
    work: Work, engine: EngineName, processes: int | None, ray_address: str | None
) -> Engine:
    if engine == "ray":
        from expraug.expand.ray import RayEngine

        return RayEngine(work, processes, ray_address)
    if processes is not None and processes > 1:
        from expraug.expand.processes import ProcessEngine

        return ProcessEngine(work, processes)
    from expraug.expand.local import LocalEngine

    return LocalEngine(work)


def _threads(engine: EngineName, device: torch.device, processes: int | None) -> int:
    if engine == "ray":
        return 4 if device.type == "cuda" else 1
    return max(1, min(os.cpu_count() or 1, 8) // (processes or 1))


def _count_plan(
    report: Report, plan: Plan, listing: Sequence[Listed], with_originals: bool
) -> None:
    report.sources = Counter(safe_name(listed.class_name) for listed in listing)
    if with_originals:
        report.originals = Counter(report.sources)
    for job in plan.jobs(listing):
        report.planned.update(plan.folders[draw.target] for draw in job.draws)
        if job.reason:
            report.skipped[job.reason] += 1


def _digest(listing: Sequence[Listed]) -> str:
    """Return a digest of what the source set holds: one that has changed is another set."""
    digest = hashlib.sha256()
    for listed in listing:
        digest.update("\0".join((*listed, "")).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _progress(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )
