"""Make pairs for all expressions from neutral faces, for synthesizers that learn from pairs.

    python -m recipes.pairs.make_pairs LONDON.parquet LFW.parquet --identity dlib \\
        --classifier CLASSIFIER --out PAIRS.parquet

Every neutral photograph of a training person is given each expression by `transfer`, through the
pipeline that users have. Of the aligned faces, a gate keeps what can be trained on: the person is
still the same (`--identity`), and a classifier gives the target at least `--least` probability, or
finds it at least that much likelier than in the source, which is fair to expressions that it seldom
sees. An expression that it does not know only has to keep the person. The classifier should be
another one than that of the evaluation; train it with `recipes.fer_classifier.train --half 0`.

PAIRS has the columns image (PNG, aligned), expression, identity, source (number of the neutral face
that it was made of; a neutral face has its own), variant, score_identity and score_expression: it
reads as a labelled set, and the rows of one source are pairs.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.datasets import open_source, person_split
from expraug.datasets.source import iterate
from expraug.errors import ExpraugError
from expraug.faces import align_image, create_detector
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from expraug.pipeline.memo import MemoizedDetector

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


@dataclass(frozen=True)
class Photograph:
    """A neutral photograph.

    Args:
        person: whom it shows.
        image: (H, W) or (H, W, 3) uint8.
        points: (5, 2) pixel coordinates, as `align_image` takes them.
    """

    person: str
    image: np.ndarray
    points: np.ndarray

    def aligned(self, image: np.ndarray, size: int) -> Tensor:
        """Return the (3, size, size) face in [0, 1] of this photograph or a changed one."""
        return align_image(image, self.points, size) / 255


@dataclass(frozen=True)
class Synthetic:
    """What became of a request.

    Args:
        face: (3, S, S) in [0, 1], aligned; None where the pipeline made none.
        identity: cosine to the source.
        probability: the classifier's, of the target; None if it does not know it.
        reason: why it cannot be trained on; else "".
    """

    request: SynthesisRequest
    face: Tensor | None
    identity: float | None = None
    probability: float | None = None
    reason: str = ""

    @property
    def scores(self) -> dict[str, Any]:
        """The columns that say how it was made and how good it is."""
        return {
            "variant": self.request.variant,
            "score_identity": self.identity,
            "score_expression": self.probability,
        }


def photograph_augmenter(synthesizer: str, check_landmarks: bool = True) -> ExpressionAugmenter:
    """Return an augmenter of photographs, which looks for the face in each once."""
    model = create_synthesizer(synthesizer)
    detector = create_detector("detect")
    return ExpressionAugmenter(
        model, alignment=MemoizedDetector(detector), check_landmarks=check_landmarks
    )


def neutral_photographs(
    path: Path, limit: int, split: str, augmenter: ExpressionAugmenter
) -> Iterator[Photograph]:
    """Yield neutral photographs of people of a split.

    One of each person first, then their second ones, and so on, up to the limit.
    """
    seen: Counter[str] = Counter()
    wanted = []
    for item in iterate(open_source(path)):
        if item.identity is None:
            raise SystemExit(f"{path} does not say who is who, so nobody can be held out")
        if item.class_name == str(NEUTRAL) and person_split(item.identity) == split:
            wanted.append((seen[item.identity], item.identity, item))
            seen[item.identity] += 1
    wanted.sort(key=lambda known: known[0])
    for _, person, item in wanted[:limit]:
        try:
            image = item.read()
        except ExpraugError as error:
            print(f"{item.origin} left out: {error}")
            continue
        (found,) = augmenter.detect([image])
        if found is not None:
            yield Photograph(person, image, found.points)
        if isinstance(augmenter.detector, MemoizedDetector):
            augmenter.detector.forget()


def expressed(
    augmenter: ExpressionAugmenter,
    photograph: Photograph,
    requests: Sequence[SynthesisRequest],
    size: int,
) -> list[Synthetic]:
    """Return the face of a photograph as each request asks, aligned at a size."""
    outcomes = augmenter([photograph.image] * len(requests), requests)
    return [
        Synthetic(request, None, reason=outcome.reason)
        if outcome.target is None
        else Synthetic(request, photograph.aligned(outcome.image, size))
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


@torch.inference_mode()
def gated(
    augmenter: ExpressionAugmenter,
    encoder: IdentityEncoder,
    classifier: FERNet,
    photograph: Photograph,
    size: int,
    variants: int,
    least: float,
) -> Iterator[Synthetic]:
    """Yield every expression of a photograph, in so many variants, with scores and reasons."""
    model = augmenter.synthesizer
    targets = [e for e in augmenter.available(NEUTRAL) if e != NEUTRAL]
    numbers = range(min(variants, model.variants))
    requests = [SynthesisRequest(e, 1.0, v) for e in targets for v in numbers]
    face = photograph.aligned(photograph.image, size)[None]
    who, before = encoder(face)[0], classifier.probabilities(face)[0]
    for made in expressed(augmenter, photograph, requests, size):
        if made.face is None:
            yield made
            continue
        cosine = float(encoder(made.face[None])[0] @ who)
        target, score, reason = made.request.target, None, ""
        if cosine < encoder.threshold:
            reason = "identity_lost"
        if target in classifier.expressions:
            column = classifier.expressions.index(target)
            score = float(classifier.probabilities(made.face[None])[0, column])
            if not reason and max(score, score - float(before[column])) < least:
                reason = "expression_faint"
        yield Synthetic(made.request, made.face, cosine, score, reason)


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
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    classifier: Annotated[Path | None, typer.Option(help="Folder; else the embedded one.")] = None,
    synthesizer: str = "transfer",
    split: str = "train",
    limit: Annotated[int, typer.Option(help="Neutral faces of each set at most.")] = 300,
    variants: Annotated[int, typer.Option(help="For each expression.")] = 2,
    least: Annotated[float, typer.Option(help="Probability of the target.")] = 0.3,
    size: Annotated[int | None, typer.Option(help="Side; else the synthesizer's own.")] = None,
) -> None:
    augmenter = photograph_augmenter(synthesizer)
    side = size or augmenter.synthesizer.image_size
    encoder, fer_classifier = create_identity_encoder(identity), load_fer_classifier(classifier)
    counts: Counter[tuple[str, str]] = Counter()
    part = out.with_suffix(".part")
    number = 0
    with pq.ParquetWriter(part, SCHEMA) as writer:
        for path in sets:
            for photograph in neutral_photographs(path, limit, split, augmenter):
                about = {"identity": photograph.person, "source": number}
                face = photograph.aligned(photograph.image, side)
                rows = [row(face, expression=str(NEUTRAL), **about)]
                for made in gated(
                    augmenter, encoder, fer_classifier, photograph, side, variants, least
                ):
                    target = str(made.request.target)
                    counts[target, made.reason or "kept"] += 1
                    if made.face is not None and not made.reason:
                        rows.append(row(made.face, expression=target, **about, **made.scores))
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                number += 1
    part.replace(out)
    print(f"{out}: {number} neutral faces")
    for expression in map(str, augmenter.synthesizer.expressions):
        found = {why: n for (name, why), n in counts.items() if name == expression}
        if found:
            print(f"  {expression}: " + ", ".join(f"{n} {why}" for why, n in found.items()))


if __name__ == "__main__":
    typer.run(main)
