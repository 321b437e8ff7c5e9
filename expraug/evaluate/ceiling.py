"""Ceiling: how much of an expression a classifier sees inside the region that may be changed.

Hands, hair, pose and background carry a part of what real faces show. On real faces of a class
everything outside the face mask is blurred, or exchanged for another person's neutral one: no
synthesizer is asked for more than what is seen then. It depends on no synthesizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.evaluate.bootstrap import Estimate, ratio
from expraug.evaluate.context import MIN_REAL, Context
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.result import Line, Result
from expraug.expressions import Expression
from expraug.faces.composite import face_mask
from expraug.networks.fer_classifier import FERClassifier

NAME = "ceiling"
_BLUR = 1 / 12  # standard deviation, as a fraction of the frame: no feature of a face is left
_SEAM = 16  # side at which surroundings are compared, in pixels


@dataclass(frozen=True)
class Seen:
    """What a classifier sees of a class.

    Args:
        recall: share of the faces that it takes for the class.
        probability: mean probability of the class.
    """

    recall: Estimate
    probability: Estimate


@dataclass(frozen=True)
class ClassCeiling:
    """What it sees of the real faces of a class, as they are and without a part.

    Args:
        whole: as they are.
        blurred: everything outside the mask blurred.
        exchanged: everything outside it another person's, who is neutral.
        inside_blurred: everything inside it blurred, as a check: what the surroundings tell by
            themselves, and also what this classifier takes a blur for.
        kept: recall, exchanged / whole: the ceiling of classifier recall, synthetic/real.
        real_from: the set of the faces.
    """

    whole: Seen
    blurred: Seen
    exchanged: Seen
    inside_blurred: Seen
    kept: Estimate
    real_from: str


@dataclass
class Ceiling(Result):
    """Ceilings by class.

    Args:
        classifier: its name.
        share: of the aligned face that the mask covers.
        targets: by class.
    """

    classifier: str
    share: float
    targets: dict[str, ClassCeiling]

    def lines(self) -> list[Line]:
        lines = []
        for target, t in self.targets.items():
            recalls = (
                f"recall {t.whole.recall.value:.2f} whole; outside the face blurred "
                f"{t.blurred.recall.value:.2f}, exchanged {t.exchanged.recall.value:.2f}; inside "
                f"blurred {t.inside_blurred.recall.value:.2f}"
            )
            lines.append(Line(f"{NAME} of recall", target, str(t.kept), recalls, str(t.kept.n)))
        return lines


def measure(context: Context) -> Ceiling:
    """Measure every target that the classifier knows, on real faces of the class."""
    classifier = context.classifier
    return Ceiling(
        classifier=classifier.name,
        share=float(face_mask(context.data.faces.shape[-1]).mean()),
        targets=context.by_target(NAME, lambda target: measure_target(context, target)),
    )


def measure_target(context: Context, target: Expression) -> ClassCeiling:
    """Measure one class.

    Raises:
        TooFewFacesError: fewer than 10 real faces, no neutral one of another person in their set,
            or the classifier does not know the class.
    """
    classifier, bootstrap = context.classifier, context.bootstrap
    if target not in classifier.expressions:
        raise TooFewFacesError(f"{classifier.name} does not know it")
    real = context.real(target)
    at = real.of(target)
    if len(at) < MIN_REAL:
        raise TooFewFacesError(f"fewer than {MIN_REAL} real faces: {len(at)}")
    donors = surroundings(real, at)
    faces, people = real.faces[at].float() / 255, real.who(at)
    others = real.faces[donors].float() / 255
    mask = face_mask(faces.shape[-1])
    soft = blurred(faces)
    column = classifier.expressions.index(target)
    rounds: list[np.ndarray] = []

    def seen(pictures: Tensor) -> Seen:
        found = _probabilities(classifier, pictures)
        rounds.append(bootstrap.mean((found.argmax(1) == column).numpy(), people))
        return Seen(
            Estimate.of(rounds[-1], len(at)),
            bootstrap.estimate(found[:, column].numpy(), people),
        )

    whole, outside, exchanged, inside = (
        seen(pictures)
        for pictures in (
            faces,
            soft + (faces - soft) * mask,
            exchange(faces, others, mask),
            faces + (soft - faces) * mask,
        )
    )
    kept = Estimate.of(ratio(rounds[2], rounds[0]), len(at))
    return ClassCeiling(whole, outside, exchanged, inside, kept, real.name)


def blurred(faces: Tensor) -> Tensor:
    """Return (N, C, S, S) faces so blurred that no feature is left."""
    from torchvision.transforms.v2.functional import gaussian_blur  # seconds to import

    sigma = _BLUR * faces.shape[-1]
    side = 2 * round(2 * sigma) + 1
    soft: Tensor = gaussian_blur(faces, [side, side], [sigma, sigma])
    return soft


def exchange(faces: Tensor, others: Tensor, mask: Tensor) -> Tensor:
    """Return faces in other people's surroundings, whose colours are matched at the seam.

    Args:
        faces, others: (N, 3, S, S) float in [0, 1].
        mask: (1, S, S) in [0, 1], 1 where the face stays.
    """
    seam = 4 * mask * (1 - mask)  # most where both show

    def colours(pictures: Tensor) -> tuple[Tensor, Tensor]:
        weight = seam / seam.sum()
        mean = (pictures * weight).sum((2, 3), keepdim=True)
        spread = ((pictures - mean).square() * weight).sum((2, 3), keepdim=True).sqrt()
        return mean, spread + 0.02  # which keeps a plain background from being blown up

    (mean, spread), (other_mean, other_spread) = colours(faces), colours(others)
    matched = ((others - other_mean) * (spread / other_spread) + mean).clamp(0, 1)
    return matched + (faces - matched) * mask


def surroundings(real: FaceSet, at: Tensor) -> Tensor:
    """Return for each face the neutral one of another person that fits best around it.

    Args:
        real: the set.
        at: (N,) long, indices of the faces.

    Returns:
        (N,) long, indices in the set.

    Raises:
        TooFewFacesError: there is none.
    """
    neutral = real.of(Expression.NEUTRAL)
    apart = [[a != b for b in real.who(neutral)] for a in real.who(at)]
    if not len(neutral) or not all(map(any, apart)):
        raise TooFewFacesError(f"{real.name} has no neutral face of another person")
    sizes = _seams(real.faces[at]), _seams(real.faces[neutral])
    far = torch.cdist(*sizes).masked_fill(~torch.tensor(apart), torch.inf)
    return neutral[far.argmin(1)]


def _seams(faces: Tensor) -> Tensor:
    """Return what lies at the mask's edge, small, of mean 0 and deviation 1: (N, D) float."""
    size = (_SEAM, _SEAM)
    small = torch.nn.functional.interpolate(faces.float().mean(1, keepdim=True), size, mode="area")
    mask = face_mask(_SEAM)
    at_edge = small[:, (mask > 0.05) & (mask < 0.95)]
    return (at_edge - at_edge.mean(1, keepdim=True)) / (at_edge.std(1, keepdim=True) + 1)


def _probabilities(classifier: FERClassifier, faces: Tensor) -> Tensor:
    quantised = (faces * 255).round() / 255  # as pictures are
    return torch.cat([classifier.probabilities(part) for part in quantised.split(256)])
