"""Make clips from neutral faces to each expression, for `recipes.fevgan.train`.

    python -m recipes.pairs.make_clips LONDON.parquet LFW.parquet --identity dlib:FOLDER \\
        --classifier CLASSIFIER \\
        --limit 1500 --out CLIPS.parquet
    python -m recipes.pairs.make_clips --sequences ck+:FOLDER --sequences mug:FOLDER --out \\
        REAL.parquet

Every neutral face of a training person is given each expression by `transfer`, at 8 rising
intensities; clips are kept whose last frame passes the gate of `recipes.pairs.make_pairs`. Or they
are sequences of real faces, of the data sets that have them, from the neutral frame to the apex.

CLIPS has the columns image (PNG, grey: 9 aligned faces side by side, the neutral one first),
expression, identity, source (number of the neutral face), variant, score_identity and
score_expression; the last three are empty in real sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from expraug import Expression, create_synthesizer
from expraug.datasets import open_dataset
from expraug.datasets.readers import Clip
from expraug.errors import ExpraugError
from expraug.faces import LandmarkDetector, align_image
from expraug.faces.composite import luminance
from expraug.faces.image import read_image
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from expraug.synthesizer import Synthesizer
from recipes.pairs.make_pairs import SCHEMA, expressed, neutral_faces, row, targets_of

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


@torch.inference_mode()
def clips_of(
    model: Synthesizer,
    encoder: IdentityEncoder,
    classifier: FERNet,
    face: Tensor,
    known: dict[str, Tensor],
    least: float,
) -> Iterator[tuple[Expression, Tensor | None, dict[str, Any], str]]:
    """Yield target, the (9, 3, S, S) frames of its clip, scores, and "" or why there is none."""
    rising = torch.arange(1, LEVELS) / LEVELS
    for expression, variant, apex, cosine, score, reason in targets_of(
        model, encoder, classifier, face, known, 1, least
    ):
        scores = {"variant": variant, "score_identity": cosine, "score_expression": score}
        if reason:
            yield expression, None, scores, reason
            continue
        target = torch.full((LEVELS - 1,), int(expression))
        between = expressed(model, face, known, target, rising, torch.full_like(target, variant))
        yield expression, torch.cat([face, between, apex[None]]), scores, ""


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
    identity: Annotated[str, typer.Option(help="'facenet' or 'dlib:PATH'")] = "facenet",
    classifier: Annotated[Path | None, typer.Option(help="Folder; else the embedded one.")] = None,
    synthesizer: str = "transfer",
    split: str = "train",
    limit: Annotated[int, typer.Option(help="Neutral faces of each set at most.")] = 1500,
    least: Annotated[float, typer.Option(help="Probability of the target.")] = 0.3,
    size: Annotated[int, typer.Option(help="Side of the frames that are written.")] = 64,
    made_at: Annotated[
        int | None, typer.Option(help="Side at which faces are made; else the synthesizer's own.")
    ] = None,
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
            model = create_synthesizer(synthesizer)
            encoder, fer_classifier = (
                create_identity_encoder(identity),
                load_fer_classifier(classifier),
            )
            for path in sets:
                for person, face, known in neutral_faces(
                    path, limit, split, made_at or model.image_size
                ):
                    rows = []
                    for expression, frames, scores, reason in clips_of(
                        model, encoder, fer_classifier, face, known, least
                    ):
                        counts[str(expression), reason or "kept"] += 1
                        if frames is not None:
                            about = {"expression": str(expression), "identity": person}
                            picture = strip(frames, size)
                            rows.append(row(picture, source=number, **about, **scores))
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
