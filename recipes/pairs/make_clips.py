"""Make clips from neutral faces to each expression, for `recipes.fevgan.train`.

    python -m recipes.pairs.make_clips LONDON.parquet LFW.parquet --identity dlib \\
        --classifier CLASSIFIER --limit 1500 --out CLIPS.parquet
    python -m recipes.pairs.make_clips --sequences ck+:FOLDER --sequences mug:FOLDER \\
        --out REAL.parquet

Every neutral photograph of a training person is given each expression by `transfer`, through the
pipeline that users have, at 8 rising intensities; clips are kept whose last frame passes the gate
of `recipes.pairs.make_pairs`. Or they are sequences of real faces, of the data sets that have them,
from the neutral frame to the apex.

CLIPS has the columns image (PNG, grey: 9 aligned faces side by side, the neutral one first),
expression, identity, source (number of the neutral face), variant, score_identity and
score_expression; the last three are empty in real sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from expraug import Expression, ExpressionAugmenter
from expraug.datasets import open_dataset
from expraug.datasets.readers import Clip
from expraug.errors import ExpraugError
from expraug.faces import LandmarkDetector, align_image
from expraug.faces.composite import luminance
from expraug.faces.image import read_image
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from recipes.pairs.make_pairs import (
    SCHEMA,
    Photograph,
    Synthetic,
    expressed,
    gated,
    neutral_photographs,
    photograph_augmenter,
    row,
)

LEVELS = 8
"""Frames of a clip after the neutral one."""


def strip(frames: Tensor, size: int) -> Tensor:
    """Return (N, 3, S, S) frames side by side in grey, (3, size, N * size), in [0, 1]."""
    grey = luminance(frames)
    if grey.shape[-1] != size:
        grey = F.interpolate(
            grey, (size, size), mode="bilinear", align_corners=False, antialias=True
        )
    return torch.cat(list(grey), 2).expand(3, -1, -1)


def clips_of(
    augmenter: ExpressionAugmenter,
    encoder: IdentityEncoder,
    classifier: FERNet,
    photograph: Photograph,
    least: float,
) -> Iterator[tuple[Synthetic, Tensor | None, str]]:
    """Yield the last frame of each expression's clip, the (9, 3, S, S) frames, and "" or why there
    are none."""
    size = augmenter.synthesizer.image_size
    for apex in gated(augmenter, encoder, classifier, photograph, size, 1, least):
        if apex.face is None or apex.reason:
            yield apex, None, apex.reason
            continue
        rising = [replace(apex.request, intensity=n / LEVELS) for n in range(1, LEVELS)]
        frames = [photograph.aligned(photograph.image, size)]
        # so faint a change may round to none: the frame is then the one before it
        for made in expressed(augmenter, photograph, rising, size):
            frames.append(frames[-1] if made.face is None else made.face)
        yield apex, torch.stack([*frames, apex.face]), ""


def sequence(clip: Clip, detector: LandmarkDetector, size: int) -> tuple[Tensor | None, str]:
    """Return (9, 3, S, S) aligned frames of a real sequence, spread evenly from the first to the
    apex, or why there are none."""
    if not clip.starts_neutral or clip.apex < 2:
        return None, "no_onset"
    frames: dict[int, Tensor] = {}
    places = torch.linspace(0, clip.apex, LEVELS + 1).round().long().tolist()
    for place in places:
        if place in frames:
            continue
        try:
            image = read_image(clip.frames[place])
        except ExpraugError as error:
            return None, error.reason
        (location,) = detector([image])
        if location is None:
            return None, "no_face"
        frames[place] = align_image(image, location.points, size) / 255
    return torch.stack([frames[place] for place in places]), ""


def real_clips(
    name: str, split: str, size: int
) -> Iterator[tuple[str, Expression, Tensor | None, str]]:
    """Yield person, expression, frames, and "" or why there are none, of "ck+:FOLDER"."""
    kind, _, folder = name.partition(":")
    data = open_dataset(kind, folder, split=split)
    if not data.clips:
        raise SystemExit(f"{name}: a data set without sequences; ck+, mug and oulu-casia have them")
    detector = LandmarkDetector("detect")
    for clip in data.clips:
        expression = data.scheme.expression(clip.class_name)
        if expression is not None and expression != Expression.NEUTRAL:
            yield f"{data.name} {clip.identity}", expression, *sequence(clip, detector, size)


def main(
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    sets: Annotated[list[Path] | None, typer.Argument(help="With expression and identity.")] = None,
    sequences: Annotated[
        list[str] | None, typer.Option(help="Real ones, as ck+:FOLDER; several.")
    ] = None,
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    classifier: Annotated[Path | None, typer.Option(help="Folder; else the embedded one.")] = None,
    synthesizer: str = "transfer",
    split: str = "train",
    limit: Annotated[int, typer.Option(help="Neutral faces of each set at most.")] = 1500,
    least: Annotated[float, typer.Option(help="Probability of the target.")] = 0.3,
    size: Annotated[int, typer.Option(help="Side of the frames that are written.")] = 64,
) -> None:
    if not sets and not sequences:
        raise SystemExit("nothing to make clips of: name sets, or --sequences")
    counts: Counter[tuple[str, str]] = Counter()
    part = out.with_suffix(".part")
    number = 0
    with pq.ParquetWriter(part, SCHEMA) as writer:

        def write(rows: list[dict[str, Any]]) -> None:
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))

        if sets:
            # a faint frame shows what the source does, and may
            augmenter = photograph_augmenter(synthesizer, check_landmarks=False)
            encoder = create_identity_encoder(identity)
            net = load_fer_classifier(classifier)
            for path in sets:
                for photograph in neutral_photographs(path, limit, split, augmenter):
                    rows = []
                    for apex, frames, reason in clips_of(
                        augmenter, encoder, net, photograph, least
                    ):
                        shown = str(apex.request.target)
                        counts[shown, reason or "kept"] += 1
                        if frames is not None:
                            about = {"expression": shown, "identity": photograph.person}
                            picture = strip(frames, size)
                            rows.append(row(picture, source=number, **about, **apex.scores))
                    write(rows)
                    number += 1
        for name in sequences or []:
            for person, expression, frames, reason in real_clips(name, split, size):
                counts[str(expression), reason or "kept"] += 1
                if frames is not None:
                    about = {"expression": str(expression), "identity": person}
                    write([row(strip(frames, size), source=number, **about)])
                    number += 1
    part.replace(out)
    print(f"{out}: clips of {number} neutral faces")
    for shown in sorted({name for name, _ in counts}):
        found = {why: n for (name, why), n in counts.items() if name == shown}
        print(f"  {shown}: " + ", ".join(f"{n} {why}" for why, n in found.items()))


if __name__ == "__main__":
    typer.run(main)
