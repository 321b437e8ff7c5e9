"""`expand`: a set of labelled faces in, its synthetic faces and a manifest out."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from expraug.datasets.exclusions import Excluded, listed_origin, read_exclusions
from expraug.datasets.source import FaceSource, Listed, source_path
from expraug.expand.card import write_card
from expraug.expand.changed import check_unchanged
from expraug.expand.checks import (
    check_destination,
    choose_gate,
    open_face_set,
    parse_shard,
)
from expraug.expand.indices import found_notes, planned_notes
from expraug.expand.layout import work_folder
from expraug.expand.naming import safe_name
from expraug.expand.options import ExpandOptions, changed, takes
from expraug.expand.parts import Parts
from expraug.expand.plan import EXCLUDED, Plan
from expraug.expand.quota import Quota
from expraug.expand.report import Report
from expraug.expand.work import Work
from expraug.expand.writers.folder import make_class_folders
from expraug.expressions import Expression
from expraug.gate import AllGates, Gate
from expraug.pipeline import ExpressionAugmenter
from expraug.pipeline.device import existing_device
from expraug.pipeline.memo import MemoizedDetector


class Engine(Protocol):
    """Carries out chunks of a `Work`."""

    def run(self, chunks: Sequence[int], advance: Callable[[int], None]) -> None:
        """Expand these chunks; `advance` is called with numbers of sources that are done."""
        ...


@takes(ExpandOptions)
def expand(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: ExpandOptions | None = None,
    **changes: Any,
) -> Report:
    """Make the synthetic faces of a whole set, as files.

    Writes `dest/<class>/<source stem>__<synthesizer>_<intensity>_<variant>.<format>`, where
    `<class>` is the source set's own name for the target expression if it has one (or the tar or
    parquet files that `write` asks for); a manifest, `dest/manifest.pq`, a parquet file (columns:
    `expraug.expand.Row`); and a data card, `dest/README.md`, with a contact sheet,
    `dest/contact_sheet.html`. What cannot be expanded (a class without expression, a target that
    cannot be made, no face, a file that is unreadable or too large, a face that the gate rejects)
    is listed in the manifest with its reason, and the work goes on. Of several faces in an image
    the largest is worked on.

    The classes of the expanded set are those of the source set, in its order, also where one stays
    empty. An ImageFolder's indices are therefore those of the source set in torchvision, timm and
    `datasets`; where one of these cannot see that, `Report.notes` says what to tell it.

    The same call gives the same bytes, however the work is split and how often it is interrupted;
    but for `status` in the manifest, which with a `cache` says what came from it. The set is
    worked on in chunks. While some are missing, a folder `.expraug` in the first folder of the set
    says which are done, and there is no manifest: a set with a manifest is complete.

    One folder holds one expansion: the same call again makes what is missing of it, and nothing
    of a complete one; a call with other settings is refused, or, with `overwrite`, deletes it.

    Args:
        source: a folder with one sub-folder per class; a parquet file with an image and a label
            column; or a published data set, "raf-db:train:FOLDER". With `shows` an image, or a
            folder of images without classes: the expanded set has all eight expressions for
            classes.
        dest: folder of the expanded set; made if need be.
        options: settings; None: the defaults.
        {options}

    Returns:
        The counts of what is there, also of what an earlier run or other shards have made.

    Raises:
        SourceError: no such source, or it is no set of labelled images.
        DestinationError: `dest` lies in the source or holds an expansion with other settings, or
            source files have changed since.
        ExclusionError: `exclude` is no list of rejected faces.
        LabelError: no class means an expression; the message says how to tell.
        UnsupportedExpressionError: a target or number of variants it does not have.
        MissingWeightsError, MissingDependencyError: of synthesizer, detector, gate or Ray.
        DeviceError: no such device.
        WorkerDiedError: a worker process was killed; the same call goes on.
        TypeError: an option that there is not.
        ValueError: another argument out of range.
        OSError: the destination cannot be written to.
    """
    options = changed(options, ExpandOptions, changes).filled_in()
    number, shards = parse_shard(options.shard)
    folder = Path(dest)
    face_set = open_face_set(source, options.shows)
    check_destination(source_path(os.fspath(source)), folder)
    on_ray_gpu = options.engine == "ray" and str(options.device).startswith("cuda")
    if not on_ray_gpu:  # there, the actors have GPUs and this process may have none
        existing_device(options.device)
    gate, gate_note = choose_gate(options.gate)
    create = partial(
        ExpressionAugmenter,
        options.synthesizer,
        alignment=options.alignment,
        gate=gate,
        check_landmarks=options.check_landmarks,
        cache=options.cache,  # type: ignore[arg-type]
        batch_size=options.batch_size or 1,
    )
    if on_ray_gpu:
        augmenter = create(device="cuda", on_miss="keep")  # this process may have no such device
    else:
        augmenter = create(device=options.device)
    augmenter.detector = MemoizedDetector(augmenter.detector, augmenter.cache)
    listing = face_set.listing()
    plan = _plan(augmenter, face_set, listing, options)
    report = Report(folder, gate=gate_note)
    report.notes = planned_notes(plan.classes, plan.source_classes, options.write)
    for note in report.notes:
        warnings.warn(note, stacklevel=2)
    if options.dry_run:
        _count_plan(report, plan, listing, options.with_originals)
        return report
    parts = Parts(
        folder,
        work_folder(folder, options.write, plan.classes),
        -(-len(face_set) // (options.chunk_size or 1)),
        _settings(options, plan, augmenter, listing),
    )
    if options.overwrite:
        parts.clear()
    parts.check()
    parts.drop_damaged()
    if options.shard is None:
        check_unchanged(face_set, listing, parts, options.num_workers or 1)
    del listing
    work = Work(face_set, plan, augmenter, parts, options)
    engine = _engine(work)
    if options.write == "folder":
        make_class_folders(folder, plan.classes)
    chunks = parts.begin(range(number, parts.chunks, shards))
    with _progress(options.progress) as bar:
        task = bar.add_task("expanding", total=sum(len(work.indices(c)) for c in chunks))
        engine.run(chunks, lambda count: bar.advance(task, count))

    def describe() -> None:
        _read(report, work)
        here = "cuda" if torch.cuda.is_available() else "cpu"
        write_card(work, report, create(device=here) if on_ray_gpu else augmenter)

    parts.finish(describe)
    _read(report, work)
    return report


def _plan(
    augmenter: ExpressionAugmenter,
    face_set: FaceSource,
    listing: Sequence[Listed],
    options: ExpandOptions,
) -> Plan:
    quota = Quota(options.balance, options.per_class, options.max_per_source)
    return Plan.create(
        augmenter,
        face_set.classes,
        scheme=options.scheme,
        targets=options.targets,
        intensity=1.0 if options.intensity is None else options.intensity,
        variants=options.variants,
        seed=options.seed,
        listing=listing,
        quota=quota if quota else None,
        excluded=_excluded(options, augmenter),
    )


def _excluded(options: ExpandOptions, augmenter: ExpressionAugmenter) -> Excluded:
    if options.exclude is None:
        return {}
    return read_exclusions(options.exclude, augmenter.fingerprint.synthesizer)


def _settings(
    options: ExpandOptions, plan: Plan, augmenter: ExpressionAugmenter, listing: Sequence[Listed]
) -> dict[str, Any]:
    """Return, as JSON values, what decides on the bytes of the set."""
    fingerprint = augmenter.fingerprint
    return options.settings(
        synthesizer=fingerprint.synthesizer,
        alignment=fingerprint.detector,
        gate=[fingerprint.gate, *_limits(augmenter.gate)],
        compositing=fingerprint.compositing,
        targets=[str(target) for target in plan.folders],
        intensity=list(plan.percents),
        scheme={name: e if e is None else str(e) for name, e in plan.expression_of.items()},
        source=_digest(listing),
        shows=None if options.shows is None else str(Expression.parse(options.shows)),
        exclude=_digest_of_excluded(plan, listing),
    )


def _limits(gate: Gate | None) -> list[Any]:
    """Return the limits by which a gate, or several, reject: fingerprints do not hold them."""
    if isinstance(gate, AllGates):
        return [limit for each in gate.gates for limit in _limits(each)]
    names = ("threshold", "thresholds", "kept", "least_rise", "most_beyond")
    found = [getattr(gate, name) for name in names if hasattr(gate, name)]
    return [
        {str(e): limit for e, limit in sorted(value.items())}
        if isinstance(value, Mapping)
        else value
        for value in found
    ]


def _read(report: Report, work: Work) -> None:
    """Count what is there, and note what a user should know of it."""
    plan, options = work.plan, work.options
    report.read(work.parts, plan)
    filled = {name for name in plan.classes if report.synthetic[name] + report.originals[name]}
    report.notes = [
        *planned_notes(plan.classes, plan.source_classes, options.write),
        *found_notes(plan.classes, filled, options.write, options.image_format),
        *report.faces_notes(options.alignment),
    ]


def _engine(work: Work) -> Engine:
    options = work.options
    if options.engine == "ray":
        from expraug.expand.ray import RayEngine

        return RayEngine(work, options.processes, options.ray_address)
    if options.processes is not None and options.processes > 1:
        from expraug.expand.processes import ProcessEngine

        return ProcessEngine(work, options.processes)
    from expraug.expand.local import LocalEngine

    return LocalEngine(work)


def _count_plan(
    report: Report, plan: Plan, listing: Sequence[Listed], with_originals: bool
) -> None:
    report.sources = Counter(safe_name(listed.class_name) for listed in listing)
    if with_originals:
        report.originals = Counter(report.sources)
    for job in plan.jobs(listing):
        report.planned.update(plan.folders[request.target] for request in job.requests)
        report.skipped[EXCLUDED] += len(job.excluded)
        if job.reason and job.reason != EXCLUDED:
            report.skipped[job.reason] += 1
    report.skipped += Counter()  # without what is not there


def _digest(listing: Sequence[Listed]) -> str:
    """Return a digest of what the source set holds: one that has changed is another set."""
    digest = hashlib.sha256()
    for listed in listing:
        digest.update("\0".join((*listed, "")).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _digest_of_excluded(plan: Plan, listing: Sequence[Listed]) -> str | None:
    """Return a digest of what is left out of this set; None where nothing is."""
    here = {listed_origin(listed.origin) for listed in listing}
    left_out = sorted(
        (origin, str(request.target), request.percent, request.variant)
        for origin in here & plan.excluded.keys()
        for request in plan.excluded[origin]
    )
    return hashlib.sha256(repr(left_out).encode()).hexdigest()[:16] if left_out else None


def _progress(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )
