"""Train the landmark classifier, on the landmarks of real faces of training people.

    python -m recipes.landmark_classifier.train DATA --out expraug/weights/landmark_classifier

DATA is laid out as `recipes.real_faces` takes it; faces and targets are those of the FER classifier
(`recipes.fer_classifier.train`), but the net sees no pixel. A minute, once the landmarks are
read. What it knows of people whom it has not seen is printed by `recipes.fer_classifier.report`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.landmark_classifier import LandmarkClassifier, upright
from recipes.real_faces import drawing_weights, targets_of, training_faces
from recipes.transfer.mesh import MIRRORED_SCORES, mirror_index

WITHIN = 0.975
"""Share of real faces that stay below the bound of an expression."""
LEAST_FACES = 20


def with_mirror_images(landmarks: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return twice as many faces, the second half seen in a mirror."""
    index = mirror_index(landmarks.mean(0).numpy())
    flipped = landmarks[:, index] * torch.tensor([-1.0, 1.0])
    return torch.cat([landmarks, flipped]), torch.cat([scores, scores[:, MIRRORED_SCORES]])


def fit_inputs(classifier: LandmarkClassifier, landmarks: Tensor, scores: Tensor) -> None:
    """Set mean face, principal components and scale of the inputs."""
    mean = landmarks.mean(0)
    for _ in range(3):  # Procrustes: the mean of faces that were laid over the mean
        mean = upright(landmarks, mean).mean(0)
    classifier.mean.copy_(mean)
    shape = (upright(landmarks, mean) - mean).flatten(1)
    axes = torch.linalg.eigh(shape.T @ shape / len(shape)).eigenvectors
    count = len(classifier.basis)
    # fp16 keeps components of unit length well, and their scale is in `spread`
    classifier.basis.copy_(axes.T.flip(0)[:count])
    inputs = torch.cat([shape @ classifier.basis.T, scores], 1)
    classifier.centre.copy_(inputs.mean(0))
    # the last components are noise; they must not be blown up to the size of the first
    deviation = inputs.std(0)
    floor = torch.cat([deviation[:count].max() * 0.02 * torch.ones(count), torch.full((52,), 0.02)])
    classifier.spread.copy_(deviation + floor)


def fisher(inputs: np.ndarray, label: np.ndarray, expression: int) -> tuple[np.ndarray, float]:
    """Return a direction and a start, along which neutral faces have mean 0 and others mean 1.

    Args:
        inputs: (N, components).
        label: (N,) values of `Expression`.
        expression: of the others.
    """
    both = [inputs[label == e] for e in (int(Expression.NEUTRAL), expression)]
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    lda.fit(np.concatenate(both), np.repeat([0, 1], [len(b) for b in both]))
    means = [float((b @ lda.coef_[0]).mean()) for b in both]
    length = means[1] - means[0]
    return lda.coef_[0] / length, means[0] / length


def fit_reach(
    classifier: LandmarkClassifier, inputs: Tensor, label: np.ndarray, half: np.ndarray
) -> None:
    """Set how far faces go towards each expression, and how far real ones go at most.

    The bound is read off each half of the people, along the direction that the other half gives.

    Args:
        inputs: (N, components + 52).
        label: (N,) values of `Expression`; others are left out.
        half: (N,) 0 or 1.
    """
    seen = inputs[:, : classifier.direction.shape[1]].double().numpy()
    for column, expression in enumerate(classifier.expressions):
        if expression == Expression.NEUTRAL or (label == int(expression)).sum() < LEAST_FACES:
            continue
        held = []
        for own in (0, 1):
            direction, start = fisher(seen[half == own], label[half == own], int(expression))
            other = (half != own) & (label == int(expression))
            held.append(seen[other] @ direction - start)
        direction, start = fisher(seen, label, int(expression))
        classifier.direction[column] = torch.from_numpy(direction)
        classifier.start[column] = start
        classifier.most[column] = float(np.quantile(np.concatenate(held), WITHIN))
        told = np.quantile(np.concatenate(held), (0.05, 0.5, WITHIN))
        print(f"reach of real faces, {expression}: 5 %, median, 97.5 %: {np.round(told, 2)}")


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    faces: Annotated[Path, typer.Option(help="Work folder of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    half: Annotated[int | None, typer.Option(min=0, max=1, help="Half of the people only.")] = None,
    epochs: int = 40,
    batch_size: int = 256,
    components: int = 120,
    width: int = 256,
    rate: float = 2e-3,
    noise: Annotated[float, typer.Option(help="Added to inputs of unit variance.")] = 0.2,
    seed: int = 0,
) -> None:
    torch.manual_seed(seed)
    known = training_faces(data, faces, half)
    weight, targets = drawing_weights(known), torch.from_numpy(targets_of(known))
    landmarks, scores = with_mirror_images(
        torch.from_numpy(known.mesh), torch.from_numpy(known.scores)
    )
    weight, targets = weight.repeat(2), targets.repeat(2, 1)
    label, lends = np.tile(known.majority, 2), np.tile(known.half, 2)
    del known
    classifier = LandmarkClassifier([str(e) for e in Expression], components, width)
    fit_inputs(classifier, landmarks, scores)
    inputs = classifier.inputs(landmarks, scores)
    fit_reach(classifier, inputs, label, lends)
    optimizer = torch.optim.AdamW(classifier.parameters(), rate, weight_decay=0.05)
    steps = len(np.arange(0, len(inputs), batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    for epoch in range(epochs):
        losses = 0.0
        for batch in torch.multinomial(weight, len(inputs), replacement=True).split(batch_size):
            seen = inputs[batch] + noise * torch.randn(len(batch), inputs.shape[1])
            loss = F.cross_entropy(classifier(seen), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += float(loss.detach()) / steps
        print(f"epoch {epoch}: loss {losses:.3f}", flush=True)
    classifier.eval().save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
