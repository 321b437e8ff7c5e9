"""What is lent is corrected until what is seen is what real faces show.

A regression tells less than there is, least of rare expressions, and not always in the right
direction; the mesh net, reading the face that was made, sees less again. So each expression is
lent to training people, what changed in them is read off, in landmarks and in skin, and what is
missing against real faces of the class becomes a correction, added to whatever exemplar lends; and
again, until little changes. Exemplars keep what makes them differ from each other, and a bank of
other faces (`fit_exemplars`) is corrected as well.

Contempt is one-sided, which means do not show, and few real faces have it: it is left as it is
(`left_out.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.landmarks import REGIONS
from expraug.expressions import Expression
from expraug.faces.landmarks import read_aligned
from expraug.synthesizers.transfer import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import bank_of, with_bank
from expraug.synthesizers.transfer.reading import DeviationReader
from recipes.real_faces import FER2013, LFW, Faces
from recipes.transfer.deviation import flat_mirror, inputs
from recipes.transfer.mesh import mirror_index

ROUNDS = 4
SOURCES, BORROWERS = 160, 64
"""Training people, and how many of them each expression is lent to."""
MOST, MOST_NEUTRAL = 500, 1000
"""Real faces of a class that are read."""
AGREED = 0.5
"""Share of the votes from which a face of FER2013 is in the mean of its class."""
LARGEST_ANGLE = 25
LANDMARK_WEIGHT, TOLD_BY = 3.0, ("brows", "eyes", "mouth")
"""How much more landmarks of these regions count."""
PENALTY = 0.002
DAMPING = 0.8
"""Share of what is missing in skin that a round adds: limits of brightness let some never come."""
_AT_ONCE = 32

FURTHER: dict[Expression, tuple[tuple[Expression, float, float], ...]] = {
    Expression.SAD: ((Expression.NEUTRAL, 0.9, 0.5),),
    Expression.FEAR: (
        (Expression.SURPRISE, 0.8, 0.5),
        (Expression.HAPPY, 0.5, 0.3),
        (Expression.NEUTRAL, 0.3, 0.2),
    ),
    Expression.DISGUST: ((Expression.ANGRY, 0.3, 0.3), (Expression.NEUTRAL, 0.0, 0.2)),
    Expression.ANGRY: ((Expression.HAPPY, 0.15, 0.1), (Expression.NEUTRAL, 0.0, 0.3)),
}
"""What synthetic faces of an expression are most often taken for, and how much of the mean
difference between both, in landmarks and in skin, they show beyond real faces: what fabric, hands
and hair tell of a class cannot be lent. Chosen on LFW's validation people by how often both
embedded classifiers see the expression, with no more than a tenth exaggerated, and by eye."""


@dataclass
class Shown:
    """What N faces show.

    Args:
        landmarks: (N, 956), as `DeviationReader.level` returns them.
        skin: (N, D), along the axes of skin, less its mean.
    """

    landmarks: Tensor
    skin: Tensor

    def mean(self, mirror: np.ndarray, signs: Tensor) -> Shown:
        """Return their mean and its mirror image's, (956,) and (D,).

        Args:
            mirror: (478,) which landmark each becomes in a mirror.
            signs: (D,) of the axes of skin in a mirror.
        """
        landmarks, skin = self.landmarks.mean(0), self.skin.mean(0)
        flipped = torch.from_numpy(flat_mirror(landmarks[None].numpy(), mirror))[0]
        return Shown((landmarks + flipped.to(landmarks)) / 2, (skin + skin * signs) / 2)

    def less(self, other: Shown, share: float = 1.0) -> Shown:
        """Return the difference to a share of the other."""
        return Shown(self.landmarks - share * other.landmarks, self.skin - share * other.skin)


@torch.inference_mode()
def read(reader: DeviationReader, faces: Tensor, pose: Tensor) -> Shown:
    """Read what faces show, landmarks by the face mesh.

    Args:
        reader: gives the frames and the axes.
        faces: (N, 3, S, S) float in [0, 1], aligned.
        pose: (N, 3) in degrees.
    """
    parts = []
    for some, turned in zip(faces.split(_AT_ONCE), pose.split(_AT_ONCE), strict=True):
        picture = (some * 255).round() / 255
        landmarks = read_aligned(picture)[0]
        skin = (reader.skin(picture, landmarks) - reader.skin_mean) @ reader.skin_axes.T
        parts.append((reader.level(landmarks, turned), skin))
    return Shown(*(torch.cat(part) for part in zip(*parts, strict=True)))


def close_loop(model: TransferSynthesizer, faces: Faces, seed: int = 0) -> TransferSynthesizer:
    """Return a synthesizer whose exemplars lend what real faces show in the mean.

    Args:
        model: lends what its exemplars are told to show; it is not changed.
        faces: of training people; of FER2013 the means of the classes are taken, LFW's neutral
            faces borrow.
        seed: of who borrows what.
    """
    reader = model.reader
    mirror = mirror_index(reader.rest.view(-1, 2).double().numpy())
    real = of_classes(reader, faces, seed)
    target = targets({e: s.mean(mirror, model.mirrored_skin) for e, s in real.items()})
    rng = np.random.default_rng(seed)
    resting = (faces.origin == LFW) & (faces.expression == Expression.NEUTRAL)
    sources = faces.take(rng.permutation(np.flatnonzero(resting))[:SOURCES])
    own = read(reader, sources.tensor(), inputs(sources)[2])
    who = torch.from_numpy(rng.integers(len(sources), size=(len(Expression), BORROWERS)))
    variant = torch.from_numpy(rng.integers(model.variants, size=(len(Expression), BORROWERS)))
    back = by_least_squares(reader)
    model = with_bank(model, bank_of(model))
    for e in target:
        model.shape_gain[int(e)] = model.skin_gain[int(e)] = 1
    for number in range(ROUNDS):
        told = []
        for e, wanted in target.items():
            some = who[int(e)]
            made = borrowed(model, sources.take(some.numpy()), e, variant[int(e)])
            seen = made.less(Shown(own.landmarks[some], own.skin[some]))
            missing = wanted.less(seen.mean(mirror, model.mirrored_skin))
            model.shape_correction[int(e)] += missing.landmarks @ back
            model.skin_correction[int(e)] += DAMPING * missing.skin
            told.append(f"{e} {_share(missing.landmarks, wanted.landmarks):.2f}")
            told[-1] += f" {_share(missing.skin, wanted.skin):.2f}"
        print(f"round {number}, missing in landmarks and skin: {', '.join(told)}", flush=True)
    return model


def of_classes(reader: DeviationReader, faces: Faces, seed: int = 0) -> dict[Expression, Shown]:
    """Return what real faces of each class show, as FER2013 has them."""
    found = {}
    rng = np.random.default_rng(seed)
    frontal = (np.abs(faces.pose[:, :2]) < LARGEST_ANGLE).all(1) & (faces.origin == FER2013)
    for e in Expression:
        members = frontal & (faces.expression == e) & (faces.votes[:, e] >= AGREED)
        most = MOST_NEUTRAL if e is Expression.NEUTRAL else MOST
        some = faces.take(rng.permutation(np.flatnonzero(members))[:most])
        if not len(some):
            continue
        found[e] = read(reader, some.tensor(), inputs(some)[2])
    return found


def targets(mean: dict[Expression, Shown]) -> dict[Expression, Shown]:
    """Return by how much faces are to change for each expression, from the means of the classes."""
    wanted: dict[Expression, Shown] = {}
    for e in mean:
        if e in (Expression.NEUTRAL, Expression.CONTEMPT):
            continue
        goal = mean[e].less(mean[Expression.NEUTRAL])
        landmarks, skin = goal.landmarks, goal.skin
        for other, of_landmarks, of_skin in FURTHER.get(e, ()):
            if other not in mean:
                continue
            apart = mean[e].less(mean[other])
            landmarks = landmarks + of_landmarks * apart.landmarks
            skin = skin + of_skin * apart.skin
        wanted[e] = Shown(landmarks, skin)
    return wanted


def borrowed(
    model: TransferSynthesizer, sources: Faces, target: Expression, variant: Tensor
) -> Shown:
    """Return what sources show that have borrowed an expression."""
    faces, (landmarks, scores, pose) = sources.tensor(), inputs(sources)
    asked = torch.full((len(faces),), int(target))
    known = {"landmarks": landmarks, "blendshapes": scores, "pose": pose, "variant": variant}
    parts = []
    with torch.inference_mode():
        for at in torch.arange(len(faces)).split(_AT_ONCE):
            some = {name: value[at] for name, value in known.items()}
            parts.append(model(faces[at], asked[at], torch.ones(len(at)), **some))
    return read(model.reader, torch.cat(parts), pose)


def by_least_squares(reader: DeviationReader, others: Iterable[int] = ()) -> Tensor:
    """Return what turns a displacement of landmarks into one along the axes of shape, (956, C).

    Args:
        reader: has the axes.
        others: landmarks that count more beside brows, eyes and mouth.
    """
    weight = torch.ones(len(reader.rest) // 2, dtype=torch.float64)
    weight[[*(i for name in TOLD_BY for i in REGIONS[name]), *others]] = LANDMARK_WEIGHT
    axes = reader.shape_axes.double()
    weighted = axes * weight.repeat_interleave(2)
    normal = weighted @ axes.T
    normal += PENALTY * normal.diag().mean() * torch.eye(len(axes), dtype=axes.dtype)
    solved: Tensor = torch.linalg.solve(normal, weighted)
    return solved.T.float()


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part.norm() / whole.norm())
