"""Print what FER classifiers know of people whom they have not seen, as model cards show it.

    python -m recipes.fer_classifier.report DATA [--classifier NAME ...]

DATA is laid out as `recipes.real_faces` takes it. Recall per class and calibration on FER2013's
validation images, labelled by the majority of the FER+ votes, with and without those that have a
near-identical twin among the training images, and where at least 6 of 10 voters agree; on LFW's
validation people; and how often two classifiers agree with each other and with the label.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from expraug.expressions import Expression
from expraug.networks.class_index import class_index
from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS, create_fer_classifier
from expraug.networks.fer_classifier import FERClassifier
from recipes.real_faces import FER2013, FILES, LFW, Faces, extract

AGREED = 0.6
"""Share of the voters who agree on an easy face."""


def groups(data: Path, work: Path) -> dict[str, Faces]:
    """Return the faces to report on, by name of the group."""
    fer = extract(FER2013, data / FILES[FER2013][1], work)
    fer = fer.take(np.flatnonzero(fer.majority >= 0))
    alone = fer.take(np.flatnonzero(~fer.duplicate))
    lfw = extract(LFW, data / FILES[LFW][0], work)
    return {
        "FER+ validation": fer,
        "without near-duplicates": alone,
        "of these, 6 of 10 agree": alone.take(np.flatnonzero(alone.votes.max(1) >= AGREED)),
        "LFW validation people": lfw.take(np.flatnonzero(lfw.split == "validation")),
    }


def predictions(classifier: FERClassifier, faces: Faces) -> Tensor:
    """Return (N, 8) probabilities in the order of `Expression`, 0 for those not known."""
    crops = torch.from_numpy(faces.crop)
    parts = [
        classifier.probabilities(part.float().div(255).expand(-1, 3, -1, -1))
        for part in crops.split(128)
    ]
    found, index = torch.cat(parts), class_index(classifier.expressions)
    return torch.where(index >= 0, found[:, index.clamp(min=0)], 0.0)


def row(faces: Faces, found: Tensor, known: tuple[Expression, ...]) -> dict[str, str]:
    """Return the figures of one classifier on one group, on the expressions that it knows."""
    label = torch.from_numpy(faces.majority)
    there = torch.isin(label, torch.tensor([int(e) for e in known]))
    label, found = label[there], found[there]
    hit = found.argmax(1) == label
    figures = {"faces": str(len(label)), "accuracy": f"{float(hit.float().mean()):.3f}"}
    recalls = {}
    for expression in Expression:
        own = hit[label == int(expression)]
        if len(own):
            recalls[expression] = float(own.float().mean())
            figures[str(expression)] = f"{recalls[expression]:.3f} of {len(own)}"
    figures["mean recall"] = f"{np.mean(list(recalls.values())):.3f}"
    error = multiclass_calibration_error(found, label, num_classes=len(Expression), n_bins=15)
    figures["calibration error"] = f"{float(error):.3f}"
    return figures


def agreement(faces: Faces, first: Tensor, second: Tensor) -> str:
    """Tell how often two classifiers agree with each other and with the label."""
    a, b, label = first.argmax(1), second.argmax(1), torch.from_numpy(faces.majority)
    shares = [float((x == y).float().mean()) for x, y in ((a, b), (a, label), (b, label))]
    same_error = float(((a == b) & (a != label)).float().mean())
    return (
        f"with each other {shares[0]:.3f}, with the label {shares[1]:.3f} and {shares[2]:.3f}; "
        f"the same error {same_error:.3f}"
    )


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    classifier: Annotated[
        list[str] | None, typer.Option(help="As expraug evaluate takes it; beside the embedded.")
    ] = None,
    faces: Annotated[Path, typer.Option(help="Work folder of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
) -> None:
    names = [*EMBEDDED_CLASSIFIERS, *(classifier or ())]
    nets = {name: create_fer_classifier(name) for name in names}
    for group, some in groups(data, faces).items():
        found = {name: predictions(net, some) for name, net in nets.items()}
        rows = {name: row(some, found[name], nets[name].expressions) for name in names}
        print(f"\n| {group} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for figure in dict.fromkeys(figure for r in rows.values() for figure in r):
            print(f"| {figure} | {' | '.join(rows[name].get(figure, '–') for name in names)} |")
        for one, other in combinations(names, 2):
            print(f"\n{one}, {other}: {agreement(some, found[one], found[other])}")


if __name__ == "__main__":
    typer.run(main)
