"""GAN-train (Shmelkov, Schmid & Alahari 2018): what a small net learns from synthetics, per class.

It learns every target from synthetics and neutral from their real sources, and is tested on real
faces of other people, next to a net that learns from as many real faces. What is recognised but
teaches nothing shows here: a low Fréchet distance has been seen beside synthetics of no use.

The net sees oriented gradients (Dalal & Triggs 2005): from the few dozen faces of a class that
there are, it learns more than one that has to find its own filters, and in a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.evaluate.bootstrap import Bootstrap, Estimate, ratio, split_by_person
from expraug.evaluate.context import Context
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.result import Headline, Line, Result, headline_of
from expraug.expressions import Expression
from expraug.networks.fer_classifier import see
from expraug.threads import single_threaded

NAME = "GAN-train"
MIN_TRAIN, MIN_TEST = 10, 10
"""Fewest faces of a class to learn from, and to test on, of each half of the people."""
STEPS, SEEDS = 200, 3
_BATCH, _RATE = 64, 3e-3
_ORIENTATIONS, _CELL = 8, 6


@dataclass(frozen=True)
class TargetUse:
    """What nets learned of one class, tested on real faces of people that they did not see.

    Args:
        ratio: average precision after learning from synthetics over that after real faces.
        synthetic, real: these average precisions, as if each class had as many faces: a net that
            learned nothing reaches 1 / the number of classes.
        synthetic_recall, real_recall: shares of the class that the nets take for it.
        faces: that either net learned the class from, for each half of the people about.
    """

    ratio: Estimate
    synthetic: Estimate
    real: Estimate
    synthetic_recall: Estimate
    real_recall: Estimate
    faces: int


@dataclass
class GanTrain(Result):
    """Average precisions and recalls by target.

    Args:
        targets: by target.
        mean: mean ratio over them.
        classes: what the nets tell apart.
        real_from: the set of the real faces.
    """

    targets: dict[str, TargetUse]
    mean: Estimate
    classes: list[str]
    real_from: str

    def caption(self) -> str:
        return f"{NAME}: {len(self.classes)} classes, tested on {self.real_from}"

    def headline(self) -> Headline:
        ratios = {target: use.ratio for target, use in self.targets.items()}
        return headline_of("use, synthetic/real", ratios, self.mean)

    def lines(self) -> list[Line]:
        name, chance = f"{NAME}, synthetic/real", 1 / len(self.classes)
        lines = []
        for target, t in self.targets.items():
            beside = (
                f"AP {t.synthetic.value:.2f} of {t.faces} synthetic, {t.real.value:.2f} of "
                f"{t.faces} real, {chance:.2f} of none; recall {t.synthetic_recall.value:.2f}, "
                f"{t.real_recall.value:.2f}"
            )
            lines.append(Line(name, target, str(t.ratio), beside, str(t.ratio.n)))
        return [*lines, Line(name, "mean", str(self.mean), f"{len(self.targets)} targets")]


@dataclass(frozen=True)
class Faces:
    """Labelled faces as the nets see them.

    Args:
        views: (N, 2, D) float, features of each face and of its mirror image.
        labels: (N,) long, values of `Expression`, or numbers of classes.
        people: N.
    """

    views: Tensor
    labels: Tensor
    people: list[str]

    def of(self, rows: np.ndarray) -> Faces:
        return Faces(self.views[rows], self.labels[rows], [self.people[i] for i in rows.tolist()])


def measure(context: Context, steps: int = STEPS, seeds: int = SEEDS) -> GanTrain:
    """Train nets on half of the people and test them on the other half, both ways round.

    The real faces are those of the set, data or reference, that has enough of more classes: never
    both, for then a net could tell the sets apart and not the expressions. A target with too few
    faces is listed in `skipped`.

    Args:
        context: gives the faces.
        steps: of training, each on 64 faces.
        seeds: nets of each kind and half, each from other random weights.

    Raises:
        TooFewFacesError: no target, or not neutral, has 10 real and 10 synthetic faces of either
            half of the people.
    """
    synthetic = _synthetic(context)
    options = [
        (_usable(synthetic, real, context.targets), name, real)
        for name, real in (
            (s.name, _real(s)) for s in (context.data, context.reference) if s is not None
        )
    ]
    (classes, lacking), name, real = max(options, key=lambda option: len(option[0][0]))
    if len(classes) < 2 or classes[0] is not Expression.NEUTRAL:
        raise TooFewFacesError("; ".join(f"{e}: {why}" for e, why in lacking.items()))
    context.skipped |= {f"{NAME}, {e}": why for e, why in lacking.items()}
    made, real = _numbered(synthetic, classes), _numbered(real, classes)
    made_at, real_at = _as_many(made, real)
    by_synthetic, by_real = (
        [_cross_fitted(learn, at, real, len(classes), steps, s) for s in range(seeds)]
        for learn, at in ((made, made_at), (real, real_at))
    )
    found, ratios = {}, []
    for number, expression in enumerate(classes[1:], 1):
        count = int((made.labels[made_at[0]] == number).sum())
        target, rounds = _compare(real, number, by_synthetic, by_real, count, context.bootstrap)
        found[str(expression)] = target
        ratios.append(rounds)
    means = [np.mean(of_seed, axis=0) for of_seed in zip(*ratios, strict=True)]
    mean = Estimate.over_seeds(means, len(ratios))
    return GanTrain(found, mean, [str(c) for c in classes], name)


def _views(faces: Tensor) -> Tensor:
    """Return the features of (N, 3, S, S) uint8 faces and their mirror images: (N, 2, D)."""
    parts = [see(part.float() / 255) for part in faces.split(256)]
    both = [torch.stack([gradients(x), gradients(x.flip(3))], 1) for x in parts]
    return torch.cat(both)


def gradients(windows: Tensor) -> Tensor:
    """Return histograms of oriented gradients of (N, 1, 48, 48) windows: (N, D) float.

    Eight orientations in cells that overlap, each cell normalised by itself.
    """
    framed = F.pad(windows, (1, 1, 1, 1), mode="replicate")
    across = framed[..., 1:-1, 2:] - framed[..., 1:-1, :-2]
    down = framed[..., 2:, 1:-1] - framed[..., :-2, 1:-1]
    angles = torch.arange(_ORIENTATIONS).view(1, -1, 1, 1) * 2 * math.pi / _ORIENTATIONS
    length = torch.hypot(across, down)
    towards = (torch.atan2(down, across) - angles).cos().clamp(min=0)
    cells = F.avg_pool2d(length * towards**2, 2 * _CELL, _CELL)
    return (cells / (cells.square().sum(1, keepdim=True).sqrt() + 0.1)).flatten(1)


def _real(faces: FaceSet) -> Faces:
    return Faces(_views(faces.faces), faces.labels, faces.people)


def _synthetic(context: Context) -> Faces:
    """Return all synthetics, but for neutral ones, and the neutral faces that they are made of."""
    data = context.data
    neutral = data.of(Expression.NEUTRAL)
    parts, labels, people = [data.faces[neutral]], [data.labels[neutral]], data.who(neutral)
    for target in context.targets:
        if target is not Expression.NEUTRAL:
            made = context.synthetics(target)
            parts.append(made.made_faces)
            labels.append(torch.full((len(made.made_of),), int(target)))
            people = people + data.who(made.made_of)
    return Faces(_views(torch.cat(parts)), torch.cat(labels), people)


def _usable(
    synthetic: Faces, real: Faces, targets: Sequence[Expression]
) -> tuple[list[Expression], dict[Expression, str]]:
    """Return the classes with enough faces, neutral first, and why the others are left out."""
    classes, lacking = [], {}
    wanted = [Expression.NEUTRAL, *(t for t in targets if t is not Expression.NEUTRAL)]
    for expression in wanted:
        made, there = (_fewest(part, expression) for part in (synthetic, real))
        if made >= MIN_TRAIN and there >= max(MIN_TRAIN, MIN_TEST):
            classes.append(expression)
        else:
            kind = "real" if expression is Expression.NEUTRAL else "synthetic"
            lacking[expression] = (
                f"needs {MIN_TRAIN} faces to learn from and {MIN_TEST} to test on, of either half "
                f"of the people; there are {made} {kind} and {there} real"
            )
    return classes, lacking


def _fewest(faces: Faces, expression: Expression) -> int:
    shown = (faces.labels == int(expression)).numpy()
    counts = np.bincount(split_by_person(faces.people)[shown], minlength=2)
    return int(counts.min())


def _numbered(faces: Faces, classes: list[Expression]) -> Faces:
    """Keep these classes, numbered from 0."""
    number = torch.full((len(Expression),), -1)
    number[[int(c) for c in classes]] = torch.arange(len(classes))
    labels = number[faces.labels]
    kept = faces.of(np.flatnonzero(labels.numpy() >= 0))
    return Faces(kept.views, number[kept.labels], kept.people)


def _as_many(made: Faces, real: Faces) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return which faces to learn from for either half of the real people, as many of each class.

    Synthetics of people in the tested half are left out, where the sets share people.
    """
    half_of_real = split_by_person(real.people)
    half_of = dict(zip(real.people, half_of_real, strict=True))
    half_of_made = split_by_person(made.people)
    shared = not half_of.keys().isdisjoint(made.people)
    if shared:
        half_of_made = np.array(
            [half_of.get(p, h) for p, h in zip(made.people, half_of_made, strict=True)]
        )
    chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for tested in (0, 1):
        picked: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for number in real.labels.unique().tolist():
            rows = [
                np.flatnonzero((part.labels == number).numpy() & (half != tested))
                for part, half in ((made, half_of_made), (real, half_of_real))
            ]
            count = min(map(len, rows))
            for into, of_class in zip(picked, rows, strict=True):
                spread = np.linspace(0, len(of_class) - 1, count).round().astype(int)
                into.append(of_class[spread])
        for into, parts in zip(chosen, picked, strict=True):
            into.append(np.concatenate(parts))
    return chosen


def _cross_fitted(
    learn: Faces, rows: Sequence[np.ndarray], real: Faces, classes: int, steps: int, seed: int
) -> np.ndarray:
    """Return (N, classes) probabilities of the real faces, by nets that did not see their people.

    Args:
        learn: faces to learn from.
        rows: which of them, to be tested on the first half of the people, and on the second.
        real: faces to test on.
        classes: number of classes.
        steps, seed: of training.
    """
    half = split_by_person(real.people)
    found = np.zeros((len(half), classes))
    for tested in (0, 1):
        net = _train(learn.of(rows[tested]), classes, steps, seed)
        test = np.flatnonzero(half == tested)
        with torch.inference_mode():
            found[test] = torch.stack([net(x).softmax(1) for x in real.views[test].unbind(1)]).mean(
                0
            )
    return found


def _train(part: Faces, classes: int, steps: int, seed: int) -> nn.Module:
    """Train a net with one hidden layer on equal shares of the classes, mirrored or not."""
    size = part.views.shape[-1]
    # so small a net learns faster on one core
    with torch.random.fork_rng(devices=[]), single_threaded():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.BatchNorm1d(size, affine=False),
            nn.Dropout(0.3),
            nn.Linear(size, 64),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(64, classes),
        ).train()
        optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        weight = 1 / torch.bincount(part.labels).float()[part.labels]
        for _ in range(steps):
            batch = torch.multinomial(weight, _BATCH, replacement=True)
            x = part.views[batch, torch.randint(2, (_BATCH,))]
            loss = F.cross_entropy(net(x), part.labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def _compare(
    real: Faces,
    number: int,
    by_synthetic: Sequence[np.ndarray],
    by_real: Sequence[np.ndarray],
    faces: int,
    bootstrap: Bootstrap,
) -> tuple[TargetUse, list[np.ndarray]]:
    """Compare two kinds of nets on one class.

    Returns:
        The figures, and the rounds of the ratio for each seed.
    """
    labels = real.labels.numpy()
    shown = labels == number
    people = [p for p, is_it in zip(real.people, shown, strict=True) if is_it]
    balance = 1 / np.bincount(labels)[labels]
    weights = bootstrap.weights(real.people) * balance
    precisions, recalls = [], []
    for outputs in (by_synthetic, by_real):
        precisions.append([average_precision(p[:, number], shown, weights) for p in outputs])
        recalls.append([bootstrap.mean(p[shown].argmax(1) == number, people) for p in outputs])
    ratios = [ratio(s, r) for s, r in zip(*precisions, strict=True)]
    n = int(shown.sum())
    synthetic, real_precision = (Estimate.over_seeds(rounds, n) for rounds in precisions)
    synthetic_recall, real_recall = (Estimate.over_seeds(rounds, n) for rounds in recalls)
    found = TargetUse(
        ratio=Estimate.over_seeds(ratios, n),
        synthetic=synthetic,
        real=real_precision,
        synthetic_recall=synthetic_recall,
        real_recall=real_recall,
        faces=faces,
    )
    return found, ratios


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return average precisions, as scikit-learn's, for many weightings at once: (R,) float.

    Args:
        scores: (N,), without ties.
        positive: (N,) bool.
        weights: (R, N).
    """
    order = np.argsort(-scores, kind="stable")
    ordered, hit = weights[:, order], positive[order]
    right = np.cumsum(ordered * hit, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(right / np.cumsum(ordered, 1))
        return np.asarray((precision * ordered * hit).sum(1) / right[:, -1])
