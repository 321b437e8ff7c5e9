"""Train the linear classifier of expressions on blendshape scores, from real faces.

    python -m recipes.landmark_classifier.train FER2013_FOLDER LFW.parquet

FER2013 gives its training images, labelled by the majority of the FER+ votes, and LFW its training
people. The scores are read as the landmark gate reads them, off aligned faces. Recall is printed
on FER2013's validation images and on LFW's validation people. The scores are kept in `--work`, so
that a second run takes seconds.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow.parquet as pq
import torch
import typer
from sklearn.linear_model import LogisticRegression

from expraug.datasets import open_source, person_split
from expraug.errors import ExpraugError
from expraug.expressions import Expression
from expraug.faces.align import align_image
from expraug.faces.landmarks import LandmarkDetector
from expraug.landmark_gate import read_blendshapes
from expraug.networks.landmark_classifier import LandmarkClassifier
from expraug.pretrained import EMBEDDED

SIZE = 128
"""Side of the aligned faces, in pixels."""
Scores = tuple[np.ndarray, np.ndarray]
"""(N, 52) float32 blendshape scores and (N,) labels, values of `Expression`."""


def rows_by_class(path: Path, split: str | None) -> dict[Expression, list[int]]:
    """Return the rows of each expression.

    Args:
        path: a parquet file. FER+ labels count if it has any.
        split: of the people; None where the set names nobody.
    """
    names = pq.read_schema(path).names
    label = "ferplus" if "ferplus" in names else "expression"
    table = pq.read_table(path, columns=[label, *(["identity"] if split else [])])
    people = table["identity"].to_pylist() if split else [""] * len(table)
    rows = defaultdict(list)
    for row, (name, person) in enumerate(zip(table[label].to_pylist(), people, strict=True)):
        if name is not None and (split is None or person_split(str(person)) == split):
            rows[Expression.parse(name)].append(row)
    return rows


def extract(
    path: Path, mode: Literal["crop", "detect"], split: str | None, most: int, work: Path
) -> Scores:
    """Return the scores of at most so many faces per class, from the work folder if it has them."""
    file = work / f"{path.parent.name}-{path.stem}-{split}-{most}.npz"
    if not file.is_file():
        detector, source = LandmarkDetector(mode), open_source(path)
        rng = np.random.default_rng(0)
        scores, labels = [], []
        for expression, rows in sorted(rows_by_class(path, split).items()):
            for row in rng.permutation(rows)[:most]:
                try:
                    image = source[int(row)].read()
                except ExpraugError:
                    continue
                (found,) = detector([image])
                if found is None:
                    continue
                face = align_image(image, found.points, SIZE)[None] / 255
                read, there = read_blendshapes(face)
                if there:
                    scores.append(read[0].numpy())
                    labels.append(int(expression))
            print(f"{file.stem}: {len(labels)} faces up to {expression}", flush=True)
        np.savez(file, scores=np.stack(scores), labels=np.array(labels))
    with np.load(file) as saved:
        return saved["scores"], saved["labels"]


def fit(scores: np.ndarray, labels: np.ndarray, regularisation: float) -> LandmarkClassifier:
    """Return the classifier that multinomial logistic regression finds, classes weighted alike."""
    mean, deviation = scores.mean(0), scores.std(0) + 0.01
    model = LogisticRegression(C=regularisation, class_weight="balanced", max_iter=2000)
    model.fit((scores - mean) / deviation, labels)
    expressions = [str(Expression(int(c))) for c in model.classes_]
    classifier = LandmarkClassifier(expressions)
    weight = model.coef_ / deviation
    classifier.weight.copy_(torch.from_numpy(weight))
    classifier.bias.copy_(torch.from_numpy(model.intercept_ - weight @ mean))
    return classifier


def report(
    classifier: LandmarkClassifier, name: str, scores: np.ndarray, labels: np.ndarray
) -> None:
    """Print recall per class."""
    found = classifier.logits(torch.from_numpy(scores)).argmax(1).numpy()
    shown = np.array([int(classifier.expressions[i]) for i in found])
    recalls = {Expression(int(c)): (shown[labels == c] == c).mean() for c in np.unique(labels)}
    told = ", ".join(f"{e} {r:.3f} of {(labels == int(e)).sum()}" for e, r in recalls.items())
    print(f"{name}: accuracy {(shown == labels).mean():.3f}; recall {told}")


def main(
    fer2013: Annotated[Path, typer.Argument(help="Folder with train.parquet, validation.parquet.")],
    lfw: Annotated[Path, typer.Argument(help="Parquet file with identities.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = EMBEDDED / "landmark_classifier",
    work: Annotated[Path, typer.Option(help="Keeps the scores.")] = Path("landmark-classifier"),
    most: Annotated[int, typer.Option(help="Faces per class and set.")] = 700,
    regularisation: Annotated[float, typer.Option(help="Inverse strength of the ridge.")] = 0.3,
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    sets = [
        extract(fer2013 / "train.parquet", "crop", None, most, work),
        extract(lfw, "detect", "train", most // 2, work),
    ]
    scores, labels = (np.concatenate(parts) for parts in zip(*sets, strict=True))
    classifier = fit(scores, labels, regularisation)
    report(classifier, "training", scores, labels)
    held_out = extract(fer2013 / "validation.parquet", "crop", None, 200, work)
    report(classifier, "FER2013 validation", *held_out)
    report(classifier, "LFW validation people", *extract(lfw, "detect", "validation", 200, work))
    classifier.save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
