"""Make pairs for all expressions from neutral faces, for synthesizers that learn from pairs.

    python -m recipes.pairs.make_pairs LONDON.parquet LFW.parquet --identity dlib:FOLDER \\
        --classifier CLASSIFIER \\
        --out PAIRS.parquet

Every neutral face of a training person is given each expression by `transfer`, as an aligned face,
and a gate keeps what can be trained on: the person is still the same (`--identity`), and a
classifier gives the target at least `--least` probability, or finds it at least that much likelier
than in the source, which is fair to expressions that it seldom sees. Contempt, which no classifier
here knows, only has to keep the person. The classifier should be another one than that of the
evaluation; train it with `recipes.fer_classifier.train --half 0`.

PAIRS has the columns image (PNG, aligned), expression, identity, source (number of the neutral face
that it was made of; a neutral face has its own), variant, score_identity and score_expression: it
reads as a labelled set, and the rows of one source are pairs.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from expraug import Expression, create_synthesizer
from expraug.datasets import open_source, person_split
from expraug.datasets.source import iterate
from expraug.errors import ExpraugError
from expraug.faces import align_image, face_mask
from expraug.faces.frame import frame, stack_landmarks
from expraug.faces.landmarks import LandmarkDetector
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from expraug.synthesizer import Synthesizer

NEUTRAL = Expression.NEUTRAL
SCHEMA = pa.schema(
    {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "expression": pa.string(),
        "identity": pa.string(),
        "source": pa.int64(),
        "variant": pa.int64(),
        "score_identity": pa.float32(),
        "score_expression": pa.float32(),
    }
)


def neutral_faces(
    path: Path, limit: int, split: str, size: int
) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
    """Yield person, aligned face, (1, 3, S, S) in [0, 1], and what `transfer` takes besides.

    One face of each person first, then their second ones, and so on, up to the limit.
    """
    detector = LandmarkDetector("detect")
    seen: Counter[str] = Counter()
    wanted = []
    for item in iterate(open_source(path)):
        if item.identity is None:
            raise SystemExit(f"{path} does not say who is who, so nobody can be held out")
        if item.class_name == str(NEUTRAL) and person_split(item.identity) == split:
            wanted.append((seen[item.identity], item))
            seen[item.identity] += 1
    wanted.sort(key=lambda pair: pair[0])
    for _, item in wanted[:limit]:
        try:
            image = item.read()
        except ExpraugError as error:
            print(f"{item.origin} left out: {error}")
            continue
        (location,) = detector([image])
        if location is not None:
            known = stack_landmarks([frame(image, location, size)])
            face = align_image(image, location.points, size)[None] / 255
            yield item.identity, face, {name: torch.from_numpy(a) for name, a in known.items()}


def expressed(
    model: Synthesizer,
    face: Tensor,
    known: dict[str, Tensor],
    target: Tensor,
    intensity: Tensor,
    variant: Tensor,
) -> Tensor:
    """Return the (1, 3, S, S) face as each of B requests asks, pasted back: (B, 3, S, S)."""
    count = len(target)
    made = model(
        face.expand(count, -1, -1, -1),
        target,
        intensity,
        variant=variant,
        **{name: values.expand(count, *values.shape[1:]) for name, values in known.items()},
    )
    return (face + (made - face) * face_mask(face.shape[-1])).clamp(0, 1)


@torch.inference_mode()
def targets_of(
    model: Synthesizer,
    encoder: IdentityEncoder,
    classifier: FERNet,
    face: Tensor,
    known: dict[str, Tensor],
    variants: int,
    least: float,
) -> Iterator[tuple[Expression, int, Tensor, float, float | None, str]]:
    """Yield target, variant, face, identity and expression score, and "" or why it is no good."""
    asked = [(e, v) for e in model.expressions if e != NEUTRAL for v in range(variants)]
    count = len(asked)
    made = expressed(
        model,
        face,
        known,
        torch.tensor([int(e) for e, _ in asked]),
        torch.ones(count),
        torch.tensor([v for _, v in asked]),
    )
    kept = encoder(made) @ encoder(face)[0]
    before, after = classifier.probabilities(face)[0], classifier.probabilities(made)
    for (e, v), image, cosine, found in zip(asked, made, kept.tolist(), after, strict=True):
        column = classifier.expressions.index(e) if e in classifier.expressions else None
        score = None if column is None else float(found[column])
        reason = ""
        if cosine < encoder.threshold:
            reason = "identity_lost"
        elif column is not None and score is not None:
            rise = score - float(before[column])
            reason = "" if max(score, rise) >= least else "expression_faint"
        yield e, v, image, cosine, score, reason


def row(image: Tensor, **columns: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    picture: Image.Image = to_pil_image(image.clamp(0, 1))
    if bool((image[0] == image[1]).all() and (image[1] == image[2]).all()):
        picture = picture.convert("L")
    picture.save(buffer, "PNG")
    return {"image": {"bytes": buffer.getvalue(), "path": None}, **columns}


def main(
    sets: Annotated[list[Path], typer.Argument(help="With expression and identity.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    identity: Annotated[str, typer.Option(help="'facenet' or 'dlib:PATH'")] = "facenet",
    classifier: Annotated[Path | None, typer.Option(help="Folder; else the embedded one.")] = None,
    synthesizer: str = "transfer",
    split: str = "train",
    limit: Annotated[int, typer.Option(help="Neutral faces of each set at most.")] = 300,
    variants: Annotated[int, typer.Option(help="For each expression.")] = 2,
    least: Annotated[float, typer.Option(help="Probability of the target.")] = 0.3,
    size: Annotated[int | None, typer.Option(help="Side; else the synthesizer's own.")] = None,
) -> None:
    model = create_synthesizer(synthesizer)
    encoder, fer_classifier = create_identity_encoder(identity), load_fer_classifier(classifier)
    counts: Counter[tuple[str, str]] = Counter()
    part = out.with_suffix(".part")
    number = 0
    with pq.ParquetWriter(part, SCHEMA) as writer:
        for path in sets:
            for person, face, known in neutral_faces(path, limit, split, size or model.image_size):
                rows = [row(face[0], expression=str(NEUTRAL), identity=person, source=number)]
                for e, v, image, cosine, score, reason in targets_of(
                    model, encoder, fer_classifier, face, known, variants, least
                ):
                    counts[str(e), reason or "kept"] += 1
                    if not reason:
                        rows.append(
                            row(
                                image,
                                expression=str(e),
                                identity=person,
                                source=number,
                                variant=v,
                                score_identity=cosine,
                                score_expression=score,
                            )
                        )
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                number += 1
    part.replace(out)
    print(f"{out}: {number} neutral faces")
    for expression in map(str, model.expressions):
        found = {why: n for (name, why), n in counts.items() if name == expression}
        if found:
            print(f"  {expression}: " + ", ".join(f"{n} {why}" for why, n in found.items()))


if __name__ == "__main__":
    typer.run(main)
