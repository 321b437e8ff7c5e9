"""How good clips are, by way of making them, on the neutral faces of people nobody has seen.

    python -m recipes.fevgan.evaluate_clips transfer unet_cgan --data LFW.parquet \\
        --reference FER2013.parquet --identity dlib [--sequences ck+:FOLDER] [--json OUT]

Each synthesizer gives two ways: the clips that users get from the pipeline, and the first frame of
each faded over into its last in the same time. All frames are aligned afterwards, as their source
is, and measured at one size. With bootstrap 95 % intervals over people:

* expression: the share of last frames in which each classifier names the target, also as a share of
  what it names among real faces of the class (as `expraug evaluate` does), and the same at the
  frame by which half of all change has happened, and at that in the middle of the time. A source
  of which no clip could be made counts as one in which the target is not named;
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

from expraug import Expression, create_synthesizer
from expraug.datasets.readers import open_dataset
from expraug.errors import ExpraugError
from expraug.evaluate import Context, build_context
from expraug.evaluate.classifier_recall import real_recall, short_name
from expraug.evaluate.clips import (
    ClipMeasures,
    Curves,
    Figures,
    MadeClips,
    cross_faded,
    estimates,
    make_clips,
    onset_curve,
    raised_cosine,
)
from expraug.evaluate.identity import embeddings, threshold
from expraug.faces import create_detector
from expraug.faces.detect import Detector
from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS
from expraug.pipeline.memo import MemoizedDetector


def targets_of(context: Context) -> list[Expression]:
    """Return the targets that all classifiers know and that can be made of a neutral face."""
    model = context.augmenter.synthesizer
    known = set.intersection(*(set(c.expressions) for c in context.classifiers))
    return [t for t in context.targets if t in known and model.supports(Expression.NEUTRAL, t)]


def real_recalls(context: Context) -> dict[str, dict[Expression, np.ndarray]]:
    """Return, by classifier and target, the rounds of its recall of real faces."""
    found: dict[str, dict[Expression, np.ndarray]] = {}
    for classifier in context.classifiers:
        own = found.setdefault(short_name(classifier.name), {})
        for target in classifier.expressions:
            real = context.real(target)
            if len(real.of(target)):
                own[target], _ = real_recall(classifier, real, target, context.bootstrap)
    return found


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
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    classifier: Annotated[
        list[str] | None, typer.Option(help="As expraug evaluate; both embedded ones if none.")
    ] = None,
    sequences: Annotated[
        str | None, typer.Option(help="Real onsets: ck+, mug or oulu-casia, as ck+:FOLDER.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation, train or all")] = "test",
    limit: Annotated[int, typer.Option(help="Faces of each expression at most.")] = 40,
    frames: Annotated[int, typer.Option(min=3, help="Of each clip.")] = 16,
    device: str = "cpu",
    output: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    models = {name: create_synthesizer(name) for name in synthesizers}
    detector = MemoizedDetector(create_detector("detect", device))
    console = Console(width=220)
    onset, onset_from = real_onset(sequences, detector, frames)
    results: dict[str, Any] = {}
    described: dict[str, Any] = {}
    for name, model in models.items():
        context = build_context(
            model,
            data,
            reference=reference,
            split=split,
            alignment=detector,
            classifiers=classifier or list(EMBEDDED_CLASSIFIERS),
            identity=identity,
            limit=limit,
            device=device,
        )
        encoder, found = context.encoder, context.data
        bar, _ = threshold(encoder, found, embeddings(context))
        measure = ClipMeasures(context.classifiers, encoder, bar, onset)
        neutral = found.of(Expression.NEUTRAL)
        if not described:
            described = {
                "data": found.name,
                "split": split,
                "people": len(set(found.who(neutral))),
                "clips of each target": len(neutral),
                "frames": frames,
                "size": found.faces.shape[-1],
                "classifiers": [c.name for c in context.classifiers],
                "identity": encoder.name,
                "threshold": bar,
                "onset": onset.tolist(),
                "onset from": onset_from,
            }
            console.print(
                f"{len(neutral)} neutral faces of {described['people']} people of {found.name} "
                f"({split}), {frames} frames at {described['size']} px; classifiers "
                f"{', '.join(described['classifiers'])}; identity "
                f"{encoder.name}, verified above {bar:.3f}; onset: {onset_from}"
            )
        ways: dict[str, dict[Expression, tuple[Curves, list[str]]]] = {}
        for target in targets_of(context):
            clips = make_clips(context, target, neutral, frames)
            people = found.who(neutral)
            try:
                own = measure(clips, target)
            except ExpraugError as error:
                console.print(f"{name}, {target}: {error}")
                continue
            faded = measure(MadeClips(cross_faded(clips.frames), clips.made), target)
            ways.setdefault(f"{name}, clip", {})[target] = own, people
            ways.setdefault(f"{name}, cross-fade", {})[target] = faded, people
        real = real_recalls(context)
        for way, measured in ways.items():
            figures = estimates(measured, real, context.bootstrap)
            show(console, way, figures)
            results[way] = {
                "fingerprint": model.fingerprint,
                "figures": {
                    f: {k: asdict(e) for k, e in row.items()} for f, row in figures.items()
                },
            }
    if output:
        output.write_text(json.dumps(described | {"ways": results}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
