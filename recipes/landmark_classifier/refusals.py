"""Print how many synthetic faces the landmark gate refuses, through the pipeline.

    python -m recipes.landmark_classifier.refusals FER2013_FOLDER LFW.parquet SYNTHESIZER...

First of validation faces, aligned by their landmarks, where few should be refused; then of smiling
sample faces, tilted, where the pipeline is told that they are upright crops.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.datasets import open_source, person_split
from expraug.expressions import Expression
from expraug.faces import CropDetector

SAMPLES = Path(__file__).parents[2] / "examples" / "faces" / "happy"
INTENSITIES = (0.6, 0.8, 1.0)
REASONS = ("landmarks_disagree", "exaggerated")


def validation_faces(path: Path, count: int) -> Iterator[tuple[np.ndarray, Expression]]:
    """Yield so many faces of a set, of validation people where it names any, and what they show."""
    source, rng = open_source(path), np.random.default_rng(5)
    for row in rng.permutation(len(source)):
        item = source[int(row)]
        if count and (item.identity is None or person_split(item.identity) == "validation"):
            count -= 1
            yield item.read(), Expression.parse(item.class_name)


def of_validation(augmenter: ExpressionAugmenter, path: Path, count: int) -> str:
    """Tell how many of two synthetics of each validation face are refused."""
    rng, start = np.random.default_rng(6), time.process_time()
    augmenter.stats.clear()
    for image, shown in validation_faces(path, count):
        for target in rng.permutation([int(e) for e in augmenter.available(shown)])[:2]:
            request = SynthesisRequest(Expression(int(target)), float(rng.choice(INTENSITIES)))
            augmenter([image], [request])
    spent = (time.process_time() - start) / max(augmenter.stats.total(), 1)
    return f"{refused(augmenter)}, {spent * 1e3:.0f} ms of a core each"


def refused(augmenter: ExpressionAugmenter) -> str:
    """Tell how many faces were refused, by reason, of how many."""
    found = {reason: augmenter.stats[reason] for reason in REASONS}
    total = augmenter.stats["made"] + sum(found.values())
    return ", ".join(f"{count} {reason}" for reason, count in found.items()) + f" of {total}"


def of_tilted(name: str) -> str:
    """Tell how many synthetics of tilted smiles are refused if these are taken for upright."""
    augmenter = ExpressionAugmenter(name, alignment=CropDetector(), check_landmarks=True)
    for file in sorted(SAMPLES.glob("*.jpg")):
        for angle in (-30, 40):
            turned = np.array(Image.open(file).rotate(angle, Image.Resampling.BICUBIC))
            for target in augmenter.available(Expression.HAPPY):
                if target in (Expression.NEUTRAL, Expression.SAD, Expression.ANGRY):
                    augmenter([turned], [SynthesisRequest(target)])
    return refused(augmenter)


def main(
    fer2013: Annotated[Path, typer.Argument(help="Folder with validation.parquet.")],
    lfw: Annotated[Path, typer.Argument(help="Parquet file with identities.")],
    synthesizers: Annotated[list[str], typer.Argument(help="Names.")],
    count: Annotated[int, typer.Option(help="Faces per set.")] = 40,
) -> None:
    for name in synthesizers:
        augmenter = ExpressionAugmenter(name, check_landmarks=True)
        for path in (fer2013 / "validation.parquet", lfw):
            print(
                f"{name}, {path.parent.name}: {of_validation(augmenter, path, count)}", flush=True
            )
        if not augmenter.synthesizer.needs_landmarks:
            print(f"{name}, tilted and taken for upright: {of_tilted(name)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
