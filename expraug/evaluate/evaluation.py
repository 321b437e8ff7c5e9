"""`evaluate`: one set of figures for any synthesizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from expraug import __version__
from expraug.errors import ExpraugError
from expraug.evaluate.agreement import Agreement, classified, measure_agreement, real_faces
from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.examples import Example, choose_examples
from expraug.evaluate.face_set import FaceSet, collect
from expraug.evaluate.fidelity import (
    Features,
    Frechet,
    Paired,
    inception_features,
    measure_frechet,
    measure_pairs,
)
from expraug.evaluate.gan_train import measure_gan_train
from expraug.evaluate.identity import Identity, measure_identity
from expraug.evaluate.report import Evaluation
from expraug.evaluate.road import measure_speed, measure_untouched
from expraug.evaluate.subgroups import Subgroup, measure_subgroups, read_subgroups
from expraug.evaluate.synthesis import Maker, sources_for
from expraug.expand.checks import check_device
from expraug.expand.plan import SchemeLike
from expraug.expressions import Expression
from expraug.faces.detect import Detector, create_detector
from expraug.networks.fer_classifier import FERClassifier, load_fer_classifier
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from expraug.synthesizer import Synthesizer, create_synthesizer

BASIC = tuple(Expression)[1:7]
"""Happy, sad, surprise, fear, disgust, angry."""
_UNTOUCHED_IMAGES = 20

Given = ParamSpec("Given")
Result = TypeVar("Result")
Made = dict[Expression, tuple[Tensor, Tensor]]


def evaluate(
    synthesizer: str | Synthesizer,
    data: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    split: str = "test",
    alignment: str | Detector = "crop",
    reference_faces: str | Detector = "crop",
    scheme: SchemeLike | None = None,
    classifier: FERClassifier | str | Path | None = None,
    identity: IdentityEncoder | str | None = None,
    targets: Sequence[Expression] | None = None,
    subgroups: str | Path | None = None,
    limit: int = 300,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> Evaluation:
    """Measure a synthesizer on real faces of people that nothing was trained on.

    Synthetics are compared as they are after paste-back, in the canonical frame. What cannot be
    measured (no pairs, no weights, too few faces) is left out and listed in `skipped` with the
    reason.

    Args:
        synthesizer: as `create_synthesizer` takes it, or one.
        data: labelled sets: folders with one sub-folder a class, or parquet files, with a column
            identity where the set says who is who; else file stems tell people apart.
        reference: a labelled set whose real faces stand in where the data has fewer than 10 of a
            class, FER2013's validation images, say.
        split: whose faces are used: "test", "validation" or "train" by
            `expraug.datasets.person_split`, where the set says who is who; or "all".
        faces, reference_faces: "detect" (photographs), "crop" (face crops), or a `Detector`.
        scheme: what the data's classes mean, as `expand` takes it.
        classifier: a `FERClassifier`, the folder of one, or None for the embedded one.
        identity: an `IdentityEncoder`, or what `create_identity_encoder` takes.
        targets: expressions to measure; None: all that the synthesizer makes.
        subgroups: a CSV file that says which images show glasses, beards or whatever else is to be
            reported by itself, as `expraug.evaluate.subgroups.read_subgroups` reads it.
        limit: faces of each expression at most, of the data and of the reference.
        batch_size: faces a pass.
        device: where the synthesizer runs.
        seed: of the bootstrap.
        progress: called with the name of each step.

    Raises:
        NoFaceError, SourceError, LabelError, MissingWeightsError: no faces, no such set, classes
            that mean nothing, no such synthesizer or classifier.
        UnsupportedExpressionError: a target that the synthesizer does not make.
        ValueError: an argument out of range.
    """
    if limit < 1 or batch_size < 1:
        raise ValueError(f"limit and batch_size must be at least 1, not {limit}, {batch_size}")
    check_device(device)
    model = create_synthesizer(synthesizer) if isinstance(synthesizer, str) else synthesizer
    named = read_subgroups(subgroups) if subgroups is not None else {}
    fer_classifier = (
        load_fer_classifier(classifier)
        if classifier is None or isinstance(classifier, (str, Path))
        else classifier
    )
    wanted = list(model.expressions if targets is None else targets)
    model.check_targets(torch.tensor([int(t) for t in wanted]))
    maker = Maker(model, device, batch_size)
    paths = [data] if isinstance(data, (str, Path)) else list(data)
    detector = (
        create_detector(faces, device, landmarks=model.needs_landmarks)
        if isinstance(faces, str)
        else faces
    )
    progress("finding faces")
    found = collect(paths, detector, model.image_size, split=split, limit=limit, scheme=scheme)
    other = None
    if reference is not None:
        progress("finding reference faces")
        crops = (
            create_detector(reference_faces, device)
            if isinstance(reference_faces, str)
            else reference_faces
        )
        other = collect([reference], crops, model.image_size, split=split, limit=limit)
    steps = _Steps(progress)
    made: Made = {}
    shown: dict[Expression, str] = {}
    for target in wanted:
        indices, sources = sources_for(found, model, target)
        if not len(indices):
            steps.skipped[str(target)] = f"{found.name} has no face that it can be made of"
            continue
        progress(f"making {target}")
        made[target], shown[target] = (indices, maker(found.faces[indices], target)), sources

    bootstrap = Bootstrap(found.people + (other.people if other else []), seed=seed)
    agreement: dict[str, Agreement] = {}
    ratios: list[np.ndarray] = []
    paired: dict[str, Paired] = {}
    frechet: dict[str, Frechet] = {}
    features = _features(fer_classifier)
    for target, (indices, faces_made) in made.items():
        known = steps.attempt(
            f"agreement, {target}",
            measure_agreement,
            *(fer_classifier, maker, found, other, target, indices, shown[target], faces_made),
            bootstrap,
        )
        if known:
            agreement[str(target)] = known[0]
            ratios += [known[1]] if target in BASIC else []
        pairs = steps.attempt(
            f"fidelity, {target}", measure_pairs, found, target, indices, faces_made, bootstrap
        )
        if pairs:
            paired[str(target)] = pairs
        real = real_faces(found, other, target)
        distance = steps.attempt(
            f"Fréchet distance, {target}",
            measure_frechet,
            *(*features, real, target, found, indices, faces_made),
        )
        if distance:
            frechet[str(target)] = distance
    kept = use = untouched = speed = None
    kinds: dict[str, Subgroup] = {}
    if made:
        kept = steps.attempt("identity", _identity, identity, found, made, bootstrap)
        sources_of = {target: indices for target, (indices, _) in made.items()}
        kinds = measure_subgroups(found, sources_of, agreement, kept, named, bootstrap)
        use = steps.attempt("use", measure_gan_train, found, other, made, bootstrap)
        jobs = [
            (found.items[i], target)
            for target, (indices, _) in made.items()
            for i in indices[: max(1, _UNTOUCHED_IMAGES // len(made))].tolist()
        ]
        untouched = steps.attempt("untouched", measure_untouched, model, detector, jobs, device)
        last, (indices, _) = next(reversed(made.items()))
        speed = steps.attempt("speed", measure_speed, maker, found.faces[indices], last)
    return Evaluation(
        synthesizer=model.fingerprint,
        data=found.name,
        reference=other.name if other else "",
        split=split if found.named else "all",
        people=len(set(found.people)),
        faces={str(e): len(found.of(e)) for e in Expression if len(found.of(e))},
        lost=dict(found.lost),
        classifier=fer_classifier.name,
        version=__version__,
        agreement=agreement,
        agreement_mean=Estimate.of(np.mean(ratios, axis=0), len(ratios)) if ratios else None,
        identity=kept,
        subgroups=kinds,
        paired=paired,
        frechet=frechet,
        use=use,
        untouched=untouched,
        speed=speed,
        skipped=steps.skipped,
        examples=_examples(found, made, fer_classifier),
    )


class _Steps:
    """Runs one measurement after the other; what cannot be measured is listed, not raised."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.progress, self.skipped = progress, dict[str, str]()

    def attempt(
        self, name: str, measure: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result | None:
        self.progress(name)
        try:
            return measure(*args, **kwargs)
        except ExpraugError as error:
            self.skipped[name] = str(error)
            return None


def _identity(
    encoder: IdentityEncoder | str | None, data: FaceSet, made: Made, bootstrap: Bootstrap
) -> Identity:
    if encoder is None or isinstance(encoder, str):
        encoder = create_identity_encoder(encoder)
    return measure_identity(encoder, data, made, bootstrap)


def _features(classifier: FERClassifier) -> tuple[str, Features]:
    """Return the features of the Fréchet distance, and their name: Inception's if they load."""
    inception = inception_features()
    if inception is not None:
        return "Inception (FID), 2048", inception

    def of_judge(faces: Tensor) -> Tensor:
        return torch.cat([classifier.features(p.float() / 255) for p in faces.split(256)])

    return f"last hidden layer of {classifier.name}", of_judge


def _examples(data: FaceSet, made: Made, classifier: FERClassifier) -> list[Example]:
    probabilities = {
        target: classified(classifier, faces)[:, classifier.expressions.index(target)].tolist()
        if target in classifier.expressions
        else None
        for target, (_, faces) in made.items()
    }
    return choose_examples(data, made, probabilities)
