"""`evaluate`: one set of figures for any synthesizer, on what users get."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from expraug import __version__
from expraug.errors import ExpraugError
from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.context import STOPPED, Context
from expraug.evaluate.face_set import SIZE, FaceSet, collect
from expraug.evaluate.measures import MEASURES, Measure
from expraug.evaluate.report import Evaluation
from expraug.evaluate.result import Result
from expraug.evaluate.subgroups import read_subgroups
from expraug.expand.options import SchemeLike
from expraug.expressions import Expression
from expraug.faces.detect import Detector, create_detector
from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS, create_fer_classifier
from expraug.networks.fer_classifier import FERClassifier
from expraug.networks.identity import (
    IDENTITY_ENCODERS,
    IdentityEncoder,
    create_identity_encoder,
)
from expraug.pipeline import ExpressionAugmenter
from expraug.pipeline.device import existing_device
from expraug.pipeline.memo import MemoizedDetector
from expraug.progress import Progress, silent
from expraug.synthesizer import Synthesizer, create_synthesizer

IdentityLike = IdentityEncoder | str
"""An identity encoder, or its name, as `create_identity_encoder` takes it."""


def evaluate(
    synthesizer: str | Synthesizer,
    data: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    split: str = "test",
    alignment: str | Detector = "crop",
    reference_alignment: str | Detector = "crop",
    scheme: SchemeLike | None = None,
    classifiers: Sequence[FERClassifier | str | Path] = tuple(EMBEDDED_CLASSIFIERS),
    identity: IdentityLike | Sequence[IdentityLike] | None = None,
    targets: Sequence[Expression] | None = None,
    subgroups: str | Path | None = None,
    measures: Sequence[str] | None = None,
    limit: int = 300,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Measure a synthesizer on real faces of people that nothing was trained on.

    Synthetics are what users get: an `ExpressionAugmenter` without a gate makes them of the
    original images, and they are aligned afterwards, at 128 px. What cannot be measured (no pairs,
    no weights, too few faces) is left out and listed in `skipped` with the reason; where nothing
    can be made of a face, that counts as not recognised and is listed under `failures`.

    On KeyboardInterrupt, once the faces are found, what was measured so far is returned, with
    `stopped` set and the rest in `skipped`.

    Args:
        synthesizer: as `create_synthesizer` takes it, or one.
        data: labelled sets: folders with one sub-folder per class, or parquet files, with a column
            identity where the set says who is who; else file stems tell people apart.
        reference: a labelled set whose real faces stand in where the data has fewer than 10 of a
            class, FER2013's validation images, say.
        split: whose faces are used: "test", "validation" or "train" by
            `expraug.datasets.person_split`, where the set says who is who; or "all".
        alignment, reference_alignment: of the data and of the reference: "crop" (face crops),
            "detect" (photographs), or a `Detector`.
        scheme: what the data's classes mean, as `expand` takes it.
        classifiers: as `create_fer_classifier` takes them. The features of the first are compared.
        identity: one or several identity encoders, each an `IdentityEncoder` or a name: "dlib",
            "facenet" (107 MB, downloaded where it is named). None: "dlib", and "facenet" if its
            weights are on this machine. Subgroups are reported by the first.
        targets: expressions to measure; None: all that the synthesizer makes.
        subgroups: a CSV file that says which images show glasses, beards or whatever else is to be
            reported by itself, as `expraug.evaluate.subgroups.read_subgroups` reads it.
        measures: names out of `expraug.evaluate.measures.MEASURES`; None: all.
        limit: faces of each expression at most, of the data and of the reference.
        batch_size: images per batch.
        device: where the pipeline runs.
        seed: of the bootstrap.
        progress: called with the name of each step, and how much of all work is done, of how much;
            see `expraug.evaluate.progress_bar`.

    Raises:
        NoFaceError, SourceError, LabelError, MissingWeightsError, MissingDependencyError: no faces,
            no such set, classes that mean nothing, no such synthesizer or classifier, or what they
            need is not installed.
        UnsupportedExpressionError: a target that the synthesizer does not make.
        ValueError: an argument out of range.
    """
    chosen = choose_measures(measures)
    context = build_context(
        synthesizer,
        data,
        reference=reference,
        split=split,
        alignment=alignment,
        reference_alignment=reference_alignment,
        scheme=scheme,
        classifiers=classifiers,
        identity=identity,
        targets=targets,
        subgroups=subgroups,
        limit=limit,
        batch_size=batch_size,
        device=device,
        seed=seed,
        progress=progress,
    )
    found = context.data
    results = run_measures(context, chosen)
    return Evaluation(
        synthesizer=context.augmenter.synthesizer.fingerprint,
        data=found.name,
        reference=context.reference.name if context.reference else "",
        split=split if found.named else "all",
        detector=context.augmenter.detector.fingerprint,
        people=len(set(found.people)),
        faces={str(e): len(found.of(e)) for e in Expression if len(found.of(e))},
        lost=dict(found.lost),
        size=found.faces.shape[-1],
        version=__version__,
        results=results,
        skipped=context.skipped,
        stopped=context.stopped,
    )


def choose_measures(names: Sequence[str] | None) -> list[Measure]:
    """Return the measures of these names, in the order of the report; None: all.

    Raises:
        ValueError: no measure of that name.
    """
    known = [measure.name for measure in MEASURES]
    for name in names or ():
        if name not in known:
            raise ValueError(f"no measure {name!r}; there are {', '.join(known)}")
    return [measure for measure in MEASURES if names is None or measure.name in names]


def build_context(
    synthesizer: str | Synthesizer,
    data: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    split: str = "test",
    alignment: str | Detector = "crop",
    reference_alignment: str | Detector = "crop",
    scheme: SchemeLike | None = None,
    classifiers: Sequence[FERClassifier | str | Path] = tuple(EMBEDDED_CLASSIFIERS),
    identity: IdentityLike | Sequence[IdentityLike] | None = None,
    targets: Sequence[Expression] | None = None,
    subgroups: str | Path | None = None,
    limit: int = 300,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    seed: int = 0,
    progress: Progress = silent,
) -> Context:
    """Load and find what all measures share; arguments and errors as those of `evaluate`.

    What the pipeline makes is measured as it is made: the augmenter has no gate and does not check
    landmarks, so that weak synthetics count instead of being left out.
    """
    if limit < 1 or batch_size < 1:
        raise ValueError(f"limit and batch_size must be at least 1, not {limit}, {batch_size}")
    existing_device(device)
    model = create_synthesizer(synthesizer) if isinstance(synthesizer, str) else synthesizer
    detector = _detector(alignment, device)
    if not isinstance(detector, MemoizedDetector):  # a comparison of synthesizers shares one
        detector = MemoizedDetector(detector)
    augmenter = ExpressionAugmenter(
        model,
        intensity=(1, 1),
        alignment=detector,
        check_landmarks=False,
        device=device,
        batch_size=batch_size,
    )
    wanted = tuple(model.expressions if targets is None else map(Expression.parse, targets))
    augmenter.require(wanted)
    named = read_subgroups(subgroups) if subgroups is not None else {}
    if not classifiers:
        raise ValueError("classifiers must name at least one FER classifier")
    nets = tuple(map(create_fer_classifier, classifiers))
    encoders, lacking = _encoders(identity)
    paths = [data] if isinstance(data, (str, Path)) else list(data)
    find = partial(collect, size=SIZE, split=split, limit=limit)
    found = find(paths, detector, scheme=scheme, progress=partial(progress, "finding faces"))
    other: FaceSet | None = None
    if reference is not None:
        crops = _detector(reference_alignment, device)
        other = find([reference], crops, progress=partial(progress, "finding reference faces"))
    context = Context(
        augmenter=augmenter,
        data=found,
        reference=other,
        classifiers=nets,
        identity=encoders[0] if encoders else next(iter(lacking.values())),
        further_identity=tuple(encoders[1:]),
        targets=(),
        bootstrap=Bootstrap(found.people + (other.people if other else []), seed=seed),
        subgroups=named,
        progress=progress,
    )
    if encoders:
        context.skipped |= {f"identity by {name}": str(error) for name, error in lacking.items()}
    context.targets = tuple(t for t in wanted if len(context.sources(t)))
    for target in wanted:
        if target not in context.targets:
            context.skipped[str(target)] = f"{found.name} has no face that it can be made of"
    return context


def run_measures(context: Context, measures: Sequence[Measure] = MEASURES) -> dict[str, Result]:
    """Run one measure after the other; what cannot be measured is listed in `context.skipped`.

    Returns:
        By name of the measure, what it found.
    """
    results: dict[str, Result] = {}
    if not context.targets:
        context.skipped |= {m.name: "no target has a face it can be made of" for m in measures}
        return results
    shared = sum(len(context.sources(t)) for t in context.targets)
    # what a measure does with faces that are made takes a while as well
    own = max(1, shared // 10)
    context.total = shared + sum(m.faces_to_make(context) + own for m in measures)
    for measure in measures:
        if context.stopped and not measure.when_stopped:
            context.skipped[measure.name] = STOPPED
            continue
        try:
            context.advance(measure.name)
            results[measure.name] = measure.run(context)
            context.advance(measure.name, own)
        except KeyboardInterrupt:
            context.stopped = True
            context.skipped[measure.name] = STOPPED
        except ExpraugError as error:
            context.skipped[measure.name] = str(error)
    return results


def _detector(alignment: str | Detector, device: str | torch.device) -> Detector:
    return create_detector(alignment, device) if isinstance(alignment, str) else alignment


def _encoders(
    identity: IdentityLike | Sequence[IdentityLike] | None,
) -> tuple[list[IdentityEncoder], dict[str, ExpraugError]]:
    """Return the identity encoders that can be had, and by name what keeps the others away.

    Raises:
        ValueError: no encoder, one that is unknown, or two of one name.
    """
    asked = IDENTITY_ENCODERS if identity is None else identity
    several = asked if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    found: list[IdentityEncoder] = []
    lacking: dict[str, ExpraugError] = {}
    for each in several:
        try:
            if isinstance(each, str):
                each = create_identity_encoder(each, download=identity is not None)
        except ExpraugError as error:
            lacking[str(each)] = error
        else:
            found.append(each)
    names = [encoder.name for encoder in found]
    if not several or len(set(names)) < len(names):
        raise ValueError(f"identity must be one encoder or several different ones, not {identity}")
    return found, lacking
