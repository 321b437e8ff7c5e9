"""Exemplars: real faces whose expressions are lent to everyone else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from expraug.errors import AmbiguousLabelError, NoFaceError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.align import align_image
from expraug.faces.frame import frame, stack_landmarks
from expraug.faces.image import as_array
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.mouth import lips_of
from expraug.labels import SchemeLike, dataset_scheme, read_label, split_sample
from expraug.networks.mouth_painter import read_interior

if TYPE_CHECKING:
    from expraug.synthesizers.transfer.synthesizer import TransferSynthesizer

MOST_ROWS = 256
"""Exemplars of an expression: so many cover a class, and more cost space and time."""
_LARGEST_YAW, _LARGEST_PITCH = 30, 25
"""In degrees: of a face that is turned further, one half is a guess."""
_WEAK, _WEAK_RARE = 0.35, 0.15
"""Share of a class that shows its expression too little. Of a class that has few faces, more must
do."""
_FEW = 12
"""Of so few faces of a class none is left out."""
_ALIKE = 0.02
"""Mean squared difference of deviations below which two faces are copies of one photograph."""
_OWN = 0.4
"""Share of what neither the shape nor the class explains of an exemplar's skin that is lent: most
of it is light and noise."""
_OPEN = 0.06
"""Lips so far apart, as a share of the width of the mouth, show its inside."""


@dataclass
class LendingFaces:
    """What was read off N faces that may lend their expressions.

    Args:
        expression: (N,) long, values of `Expression`.
        shape, skin: (N, C) and (N, D), their deviations.
        pose: (N, 2) yaw and pitch in degrees.
        interior: (N, 6, 12) insides of the mouths.
        gaps: (N, 9) between the lips, as `TransferSynthesizer.lip_gaps` reads them.
    """

    expression: Tensor
    shape: Tensor
    skin: Tensor
    pose: Tensor
    interior: Tensor
    gaps: Tensor

    def __len__(self) -> int:
        return len(self.expression)

    def take(self, index: Tensor) -> LendingFaces:
        """Return the faces at an index or mask."""
        return LendingFaces(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def joined(cls, parts: list[LendingFaces]) -> LendingFaces:
        """Return several sets as one."""
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})


def fit_exemplars(
    synthesizer: TransferSynthesizer,
    dataset: Any,
    scheme: SchemeLike | None = None,
    *,
    rows: int | None = None,
    alignment: str = "crop",
) -> TransferSynthesizer:
    """Return a synthesizer whose exemplars are faces of a data set.

    All faces of an expression become its exemplars, but for those that are turned away, hardly show
    it, or look like no other. Of each come the deviations from rest, the pose and, very coarsely,
    the inside of the mouth. Expressions that the set does not show keep the exemplars they have.

    Give it training faces only: exemplars end up in what is made of everyone else.

    Args:
        synthesizer: reads the faces, and gives what the set does not have; it is not changed.
        dataset: map-style, of `(image, label)` or `{"image": ..., "label": ...}`.
        scheme: what the labels mean; None where the set's own class names tell.
        rows: exemplars of an expression at most; None takes up to 256.
        alignment: "crop" for face crops, "detect" for photographs.

    Raises:
        NoFaceError: no face with landmarks shows an expression.
        LabelError: a label outside the scheme, or a scheme that contradicts the class names.
        ValueError: `rows` below 1.
        MissingDependencyError, MissingWeightsError: landmarks cannot be had.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    found: list[LendingFaces] = []
    detector = LandmarkDetector(alignment)  # type: ignore[arg-type]
    for image, expression in _labelled(dataset, dataset_scheme(dataset, scheme)):
        (detected,) = detector([image])
        if detected is None or detected.pose is None or not is_frontal(detected.pose):
            continue
        known = stack_landmarks([frame(image, detected, synthesizer.image_size)])
        face = align_image(image, detected.points, synthesizer.image_size)[None] / 255
        inputs = {name: torch.from_numpy(value) for name, value in known.items()}
        found.append(read_lending(synthesizer, face, torch.tensor([int(expression)]), **inputs))
    if not found:
        raise NoFaceError(
            "no face with landmarks shows an expression: for photographs that are no face crops, "
            "use alignment='detect'"
        )
    lending = LendingFaces.joined(found)
    return with_exemplars(synthesizer, lending, rows or MOST_ROWS)


def is_frontal(pose: np.ndarray) -> np.ndarray:
    """Say which faces are not turned too far to lend, (...) bool of (..., 3) yaw, pitch, roll."""
    near: np.ndarray = (np.abs(pose[..., :2]) < (_LARGEST_YAW, _LARGEST_PITCH)).all(-1)
    return near


def _labelled(dataset: Any, scheme: LabelScheme) -> Iterator[tuple[np.ndarray, Expression]]:
    """Yield what can be read and shows an expression; a damaged sample lends nothing."""
    for index in range(len(dataset)):
        try:
            image, label = split_sample(dataset[index])
            expression = read_label(label, scheme)
            if expression is not None:
                yield as_array(image), expression
        except (UnreadableImageError, AmbiguousLabelError, OSError):
            continue


@torch.inference_mode()
def read_lending(
    synthesizer: TransferSynthesizer,
    faces: Tensor,
    expression: Tensor,
    landmarks: Tensor,
    blendshapes: Tensor,
    pose: Tensor,
) -> LendingFaces:
    """Read what faces can lend.

    Args:
        synthesizer: whose axes deviations are read along.
        faces: (B, 3, S, S) float in [0, 1], aligned.
        expression: (B,) long, what they show.
        landmarks, blendshapes, pose: as `Synthesizer.needs_landmarks` describes them.
    """
    deviation = synthesizer.reader(faces, landmarks, blendshapes, pose)
    return LendingFaces(
        expression,
        deviation.shape,
        deviation.skin,
        pose[:, :2].clone(),
        read_interior(faces, lips_of(landmarks)),
        synthesizer.lip_gaps(landmarks),
    )


def choose_exemplars(
    synthesizer: TransferSynthesizer,
    lending: LendingFaces,
    target: Expression,
    rest: Tensor,
    most: int,
) -> Tensor:
    """Return the indices of the faces that lend an expression, at most so many.

    Args:
        synthesizer: knows how much of a face's skin its shape leaves unexplained.
        lending: the faces.
        target: what is lent.
        rest: (M, C + D) standardised deviations of neutral faces.
        most: of the faces.
    """
    members = (lending.expression == int(target)).nonzero()[:, 0]
    rare = len(members) < most
    if len(members) > _FEW:
        # hands before the face, hard shadows, paint
        left = synthesizer.unexplained(lending.shape[members], lending.skin[members])
        members = members[(left <= synthesizer.most_unexplained).all(1)]
    seen = standardised(lending.shape[members], lending.skin[members])
    if target is not Expression.NEUTRAL and len(members) > _FEW:
        direction = seen.mean(0) - rest.mean(0)
        shown = (seen - rest.mean(0)) @ direction
        strong = shown >= shown.quantile(_WEAK_RARE if rare else _WEAK)
        members, seen = members[strong], seen[strong]
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(int(target)))
    kept: list[int] = []
    for i in order.tolist():
        if not kept or float((seen[kept] - seen[i]).square().mean(1).min()) > _ALIKE:
            kept.append(i)
        if len(kept) == most:
            break
    return members[torch.tensor(kept, dtype=torch.long)]


def standardised(shape: Tensor, skin: Tensor) -> Tensor:
    """Return deviations of shape and skin as one, (N, C + D), each part of like weight."""
    return torch.cat(
        [part / part.square().mean().sqrt().clamp(min=1e-6) for part in (shape, skin)], 1
    )


def with_exemplars(
    synthesizer: TransferSynthesizer, lending: LendingFaces, most: int = MOST_ROWS
) -> TransferSynthesizer:
    """Return a synthesizer that lends the expressions of these faces.

    Args:
        synthesizer: gives the exemplars of expressions that nobody shows; it is not changed.
        lending: the faces.
        most: exemplars of an expression.
    """
    own = bank_of(synthesizer)
    neutral = lending.take(lending.expression == int(Expression.NEUTRAL))
    neutral = neutral if len(neutral) else own.take(own.expression == int(Expression.NEUTRAL))
    rest = standardised(neutral.shape, neutral.skin)
    parts = []
    for target in synthesizer.expressions:
        kept = own.take(own.expression == int(target))
        chosen = choose_exemplars(synthesizer, lending, target, rest, most)
        if len(chosen):
            new = lending.take(chosen)
            kept = _with_common_skin(synthesizer, _with_mouths(new, lending, own), kept)
        parts.append(kept)
    return with_bank(synthesizer, LendingFaces.joined(parts))


def with_bank(synthesizer: TransferSynthesizer, bank: LendingFaces) -> TransferSynthesizer:
    """Return a synthesizer with exactly these exemplars, at least one of each expression, in the
    order of its expressions."""
    counts = {str(e): int((bank.expression == int(e)).sum()) for e in synthesizer.expressions}
    model = type(synthesizer)(**synthesizer.config | {"rows": counts})
    rows = {f.name: getattr(bank, f.name) for f in fields(bank)}
    rows["oddness"] = torch.cat(
        [_from_mean(bank.shape[bank.expression == int(e)]) for e in synthesizer.expressions]
    )
    state = synthesizer.state_dict()
    model.load_state_dict(state | {name: rows[name] for name in rows if name in state})
    return model.eval().requires_grad_(False)


def _from_mean(shape: Tensor) -> Tensor:
    """Return squared distances of (N, C) deviations from their mean, as multiples of the usual."""
    distance = (shape - shape.mean(0)).square().sum(1)
    return distance / distance.median().clamp(min=1e-6)


def bank_of(synthesizer: TransferSynthesizer) -> LendingFaces:
    """Return the exemplars that a synthesizer has."""
    s = synthesizer
    return LendingFaces(s.shows, s.shape, s.skin, s.pose, s.interior, s.gaps)


def _with_common_skin(
    synthesizer: TransferSynthesizer, faces: LendingFaces, before: LendingFaces
) -> LendingFaces:
    """Return faces with the skin that goes with their shape and their class, and less of their own.

    Args:
        synthesizer: knows what skin goes with a shape.
        faces: of one expression.
        before: the exemplars there were, which say what the class has beyond its shape where there
            are few faces.
    """
    expected = synthesizer.expected_skin(faces.shape)
    beyond = faces.skin - expected
    common = before.skin - synthesizer.expected_skin(before.shape)
    common = beyond.mean(0) if len(faces) > _FEW else common.mean(0)
    skin = expected + common + _OWN * (beyond - common)
    return LendingFaces(**vars(faces) | {"skin": skin})


def _with_mouths(faces: LendingFaces, lending: LendingFaces, own: LendingFaces) -> LendingFaces:
    """Return faces whose lips are shut with the inside of the most alike mouth that is open.

    A source whose lips are apart a little may open them where the exemplar's just meet.
    """
    pool = lending if bool((lending.gaps.mean(1) > _OPEN).any()) else own
    pool = pool.take(pool.gaps.mean(1) > _OPEN)
    shut = faces.gaps.mean(1) <= _OPEN
    if not len(pool) or not bool(shut.any()):
        return faces
    nearest = torch.cdist(faces.shape[shut], pool.shape).argmin(1)
    interior = faces.interior.clone()
    interior[shut] = pool.interior[nearest]
    return LendingFaces(**vars(faces) | {"interior": interior})
