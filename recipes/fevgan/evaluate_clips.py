"""How good clips are, by way of making them, on the neutral faces of people nobody has seen.

    python -m recipes.fevgan.evaluate_clips transfer unet_cgan --data LFW.parquet \\
        --reference FER2013.parquet --identity dlib:FOLDER [--sequences ck+:FOLDER] [--json OUT]

Each synthesizer gives two ways: its own `clip`, and the first frame of that faded over into its
last in the same time. Sources are found, aligned and cut down once; each synthesizer gets them at
its own size, and all frames are measured at one. With bootstrap 95 % intervals over people:

* expression: the share of last frames in which the classifier names the target, also as a share of
  what it names among real faces of the class (as `expraug evaluate` does), and the same at the
  frame by which half of all change has happened;
* identity: cosine of the frames to the source, its worst frame, clips that are verified in every
  frame, and ACD-I and ACD-C, the mean distance of a frame's embedding to the source's and the
  next frame's;
* smoothness: change of luminance from frame to frame, and the change of that, as shares of the
  change from first to last frame; the largest step as a share of all steps; and how far the
  share of change that has happened lies from that of a real onset, on average over the frames.
  The real onset is measured on `--sequences`, else it is a raised cosine;
* a rising expression: clips in which the target's probability never falls by more than 0.02, and
  Spearman's correlation of that probability with time.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from expraug import Expression, create_synthesizer
from expraug.datasets.readers import open_dataset
from expraug.evaluate.agreement import real_faces, recognised
from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.clips import (
    ClipMeasures,
    Curves,
    Figures,
    cross_faded,
    estimates,
    make_clips,
    onset_curve,
    raised_cosine,
)
from expraug.evaluate.face_set import FaceSet, collect
from expraug.evaluate.identity import FALSE_ACCEPTS, MIN_DIFFERENT, different_pairs, embed
from expraug.faces import create_detector
from expraug.faces.detect import Detector
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from expraug.synthesizer import Synthesizer


def sources_of(model: Synthesizer, data: FaceSet, classifier: FERNet) -> dict[Expression, Tensor]:
    """Return, by target that the classifier knows, the indices of the neutral faces to make it of."""
    neutral = data.of(Expression.NEUTRAL)
    return {
        target: neutral
        for target in model.expressions
        if target in classifier.expressions and model.supports(Expression.NEUTRAL, target)
    }


def real_recalls(
    classifier: FERNet, data: FaceSet, reference: FaceSet | None, bootstrap: Bootstrap
) -> dict[Expression, np.ndarray]:
    """Return, by target, the rounds of the classifier's recall of real faces."""
    found = {}
    for target in classifier.expressions:
        real = real_faces(data, reference, target)
        at = real.of(target)
        if len(at):
            seen = recognised(classifier, real.faces[at], target)
            found[target] = bootstrap.mean(seen, real.who(at))
    return found


def threshold_of(encoder: IdentityEncoder, data: FaceSet) -> float:
    """Return the cosine that 1 % of pairs of different people exceed; the encoder's own where
    there are too few."""
    who, pairs = embed(encoder, data.faces), different_pairs(data.people)
    if len(pairs) < MIN_DIFFERENT:
        return float(encoder.threshold)
    cosines = (who[pairs[:, 0]] * who[pairs[:, 1]]).sum(1).numpy()
    return float(np.quantile(cosines, 1 - FALSE_ACCEPTS))


def real_onset(sequences: str | None, detector: Detector, frames: int) -> tuple[np.ndarray, str]:
    """Return the progress of a real onset, and where it is from.

    Raises:
        ValueError, LayoutError: no such data set, or not in that folder.
        TooFewFacesError: no sequence that could be measured.
    """
    if sequences is None:
        return raised_cosine(frames), "a raised cosine, (1 - cos(pi t)) / 2: none was measured"
    name, _, root = sequences.partition(":")
    clips = open_dataset(name, root, split="test", missing="skip").clips
    return onset_curve(clips, detector, frames), f"{len(clips)} sequences of {name}, test people"


def show(console: Console, name: str, figures: Figures) -> None:
    """Print the figures of one way of making clips, a row each."""
    table = Table(title=name)
    table.add_column("")
    columns = list(dict.fromkeys(n for row in figures.values() for n in row))
    for column in columns:
        table.add_column(column)
    for figure, row in figures.items():
        table.add_row(figure, *(str(row[c]) if c in row else "–" for c in columns))
    console.print(table)


def main(
    synthesizers: Annotated[list[str], typer.Argument(help="Names or folders.")],
    data: Annotated[list[Path], typer.Option(help="Labelled photographs; several.")],
    reference: Annotated[
        Path | None, typer.Option(help="Real faces for classes of which the data has under 10.")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="'facenet' or 'dlib:PATH'")] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Folder; the embedded one if none.")
    ] = None,
    sequences: Annotated[
        str | None, typer.Option(help="Real onsets: ck+, mug or oulu-casia, as ck+:FOLDER.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation, train or all")] = "test",
    limit: Annotated[int, typer.Option(help="Faces of each expression at most.")] = 40,
    frames: Annotated[int, typer.Option(min=3, help="Of each clip.")] = 16,
    size: Annotated[int, typer.Option(help="Side at which all frames are measured.")] = 128,
    device: str = "cpu",
    output: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    models = {name: create_synthesizer(name).to(device).eval() for name in synthesizers}
    encoder, fer_classifier = create_identity_encoder(identity), load_fer_classifier(classifier)
    console = Console(width=220)
    landmarks = any(model.needs_landmarks for model in models.values())
    detector = create_detector("detect", device, landmarks=landmarks)
    onset, onset_from = real_onset(sequences, detector, frames)
    found = collect(data, detector, size, split=split, limit=limit)
    other = None
    if reference is not None:
        other = collect([reference], create_detector("crop"), size, split=split, limit=limit)
    bootstrap = Bootstrap(found.people + (other.people if other else []))
    measure = ClipMeasures(fer_classifier, encoder, threshold_of(encoder, found), onset)
    real = real_recalls(fer_classifier, found, other, bootstrap)
    neutral = found.of(Expression.NEUTRAL)
    console.print(
        f"{len(neutral)} neutral faces of {len(set(found.who(neutral)))} people of {found.name} "
        f"({split}), {frames} frames at {size} px; classifier {fer_classifier.name}; identity "
        f"{encoder.name}, verified above {measure.threshold:.3f}; onset: {onset_from}"
    )
    results: dict[str, Any] = {}
    for name, model in models.items():
        ways: dict[str, dict[Expression, tuple[Curves, list[str]]]] = {}
        for target, at in sources_of(model, found, fer_classifier).items():
            clips = make_clips(model, found.faces[at], target, frames, device=device)
            people = found.who(at)
            ways.setdefault(f"{name}, clip", {})[target] = measure(clips, target), people
            faded = measure(cross_faded(clips), target)
            ways.setdefault(f"{name}, cross-fade", {})[target] = faded, people
        for way, measured in ways.items():
            figures = estimates(measured, real, bootstrap)
            show(console, way, figures)
            results[way] = {
                "fingerprint": model.fingerprint,
                "figures": {
                    f: {k: asdict(e) for k, e in row.items()} for f, row in figures.items()
                },
            }
    if output:
        described = {
            "data": found.name,
            "split": split,
            "people": len(set(found.who(neutral))),
            "clips of each target": len(neutral),
            "frames": frames,
            "size": size,
            "classifier": fer_classifier.name,
            "identity": encoder.name,
            "threshold": measure.threshold,
            "onset": onset.tolist(),
            "onset from": onset_from,
        }
        output.write_text(json.dumps(described | {"ways": results}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
