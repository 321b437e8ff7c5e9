"""Exemplars from a user's own faces: their rare expressions are lent to everyone else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.errors import AmbiguousLabelError, NoFaceError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.align import align_image
from expraug.faces.composite import luminance
from expraug.faces.frame import frame, stack_landmarks
from expraug.faces.image import as_array
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.mesh import SurfacePoints, splat
from expraug.labels import SchemeLike, dataset_scheme, read_label, split_sample

if TYPE_CHECKING:
    from expraug.synthesizers.transfer.synthesizer import TransferSynthesizer

TEXTURE_FRAME = (-0.1, 1.1)
"""Both axes of the texture maps, in canonical units: the chin of a wide-open mouth is inside."""
LARGEST_YAW = 25
"""In degrees: of a face that is turned further, one half is a guess."""
TRUST = 10
"""So many faces of a class count for their skin as much as the embedded bank."""
_FLOOR = 0.06  # added to luminance before its logarithm, which would blow up noise in the dark
_LOCAL = 11  # texels: what is broader is lighting


def fit_exemplars(
    synthesizer: TransferSynthesizer,
    dataset: Any,
    scheme: SchemeLike | None = None,
    *,
    rows: int = 3,
    alignment: str = "crop",
) -> TransferSynthesizer:
    """Return a synthesizer whose exemplars are faces of a data set.

    For each expression that the set shows, `rows` faces become its exemplars: those that stand out
    most from the set's neutral faces in the direction of the expression. Of each come the
    expression scores, the pose and the inside of the mouth; the skin's change is the mean over all
    faces of the class, mixed with the embedded one while they are few, since a single face's skin
    would bring its person along. Expressions that the set does not show keep the rows they have.

    Give it training faces only: exemplars end up in what is made of everyone else.

    Args:
        synthesizer: gives the geometry and what the set does not have; it is not changed.
        dataset: map-style, of `(image, label)` or `{"image": ..., "label": ...}`.
        scheme: what the labels mean; None where the set's own class names tell.
        rows: exemplars of an expression at most, and so its variants.
        alignment: "crop" for face crops, "detect" for photographs.

    Raises:
        NoFaceError: no face with landmarks shows an expression.
        LabelError: a label outside the scheme, or a scheme that contradicts the class names.
        ValueError: `rows` below 1.
        MissingDependencyError, MissingWeightsError: landmarks cannot be had.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    found = _Found(synthesizer)
    for image, expression in _labelled(dataset, dataset_scheme(dataset, scheme)):
        found.add(image, expression, alignment)
    if not found.expression:
        raise NoFaceError(
            "no face with landmarks shows an expression: for photographs that are no face crops, "
            "use alignment='detect'"
        )
    return _replaced(synthesizer, found, rows)


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


class _Found:
    """What was measured on the faces of a set, a list entry each."""

    def __init__(self, synthesizer: TransferSynthesizer) -> None:
        self.synthesizer = synthesizer
        self.expression: list[int] = []
        self.scores: list[Tensor] = []
        self.pose: list[Tensor] = []
        self.skin: list[Tensor] = []
        self.mouth: list[Tensor] = []
        self._detectors: dict[str, LandmarkDetector] = {}

    def add(self, image: np.ndarray, expression: Expression, alignment: str) -> None:
        detector = self._detectors.setdefault(alignment, LandmarkDetector(alignment))  # type: ignore[arg-type]
        (detected,) = detector([image])
        if detected is None or detected.pose is None or abs(detected.pose[0]) > LARGEST_YAW:
            return
        size = self.synthesizer.image_size
        known = stack_landmarks([frame(image, detected, size)])
        face = align_image(image, detected.points, size)[None] / 255
        skin, mouth = read_face(self.synthesizer, face, torch.from_numpy(known["landmarks"]))
        self.expression.append(int(expression))
        self.scores.append(torch.from_numpy(known["blendshapes"])[0])
        self.pose.append(torch.from_numpy(known["pose"])[0, :2])
        self.skin.append(skin[0])
        self.mouth.append(mouth[0])


def read_face(
    synthesizer: TransferSynthesizer, face: Tensor, landmarks: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the skin and the inside of the mouth of one aligned face.

    Args:
        face: (1, 3, S, S) float in [0, 1].
        landmarks: (1, 478, 2) canonical.

    Returns:
        (1, K) log luminance less its local mean at the K texels of the texture, and (1, h, w)
        luminance in the mouth, 1 as bright as the cheeks.
    """
    low, high = TEXTURE_FRAME
    surface, side = synthesizer.surface(), synthesizer.texture_size
    rest = synthesizer.reference[None]
    # drawn in the texture frame, in the shape at rest, each texel finds its place in the face;
    # here points in the mouth say where it is like all others
    drawn = splat(
        SurfacePoints(**(vars(surface) | {"hole": torch.zeros_like(surface.hole)})),
        synthesizer.vertices(landmarks, landmarks),
        (synthesizer.vertices(rest, rest) - low) / (high - low),
        synthesizer.vertices(rest, rest)[0],
        side,
    )
    axis = (torch.arange(side) + 0.5) / side
    texel = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None]
    place = (texel + drawn.flow.permute(0, 2, 3, 1)) * 2 - 1
    grey = luminance(face)
    light = F.grid_sample(grey, place, padding_mode="reflection", align_corners=False)

    inside = synthesizer.mask > 0
    logarithm = torch.log(light + _FLOOR) * inside
    share = _blur(inside.to(light)[None, None])
    skin = (logarithm - _blur(logarithm) / share.clamp(min=1e-6))[:, 0, inside]

    start, end = synthesizer.mouth_frame.split(2)
    height, width = synthesizer.mouth.shape[1:]
    steps = torch.meshgrid(torch.linspace(0, 1, width), torch.linspace(0, 1, height), indexing="xy")
    mouth = start + torch.stack(steps, -1)[None] * (end - start)
    interior = F.grid_sample(light, mouth, padding_mode="border", align_corners=False)[:, 0]
    cheeks = landmarks[:, synthesizer.cheeks.long()][:, None] * 2 - 1
    level = F.grid_sample(grey, cheeks, align_corners=False).mean((1, 2, 3))
    return skin, interior / level.clamp(min=0.15)[:, None, None]


def _blur(maps: Tensor) -> Tensor:
    for _ in range(3):  # three boxes are nearly a Gaussian
        side = _LOCAL * 2 + 1
        maps = F.avg_pool2d(maps, (side, 1), 1, (_LOCAL, 0))
        maps = F.avg_pool2d(maps, (1, side), 1, (0, _LOCAL))
    return maps


def _replaced(synthesizer: TransferSynthesizer, found: _Found, rows: int) -> TransferSynthesizer:
    """Return a synthesizer with rows for what was found."""
    expression = torch.tensor(found.expression)
    scores, pose = torch.stack(found.scores), torch.stack(found.pose)
    skin, mouth = torch.stack(found.skin), torch.stack(found.mouth)
    own = expression == Expression.NEUTRAL
    neutral = scores[own].mean(0) if own.any() else synthesizer.rest
    bank: dict[str, list[Tensor]] = {name: [] for name in _ROWS}
    counts: dict[str, int] = {}
    for target in synthesizer.expressions:
        kept = (synthesizer.shows == int(target)).nonzero()[:, 0]
        members = (expression == int(target)).nonzero()[:, 0]
        if not len(members):
            counts[str(target)] = len(kept)
            for name in _ROWS:
                bank[name] += list(getattr(synthesizer, name)[kept])
            continue
        change = (scores[members] - neutral) * synthesizer.moves / (synthesizer.spread + 0.05)
        typical = change.mean(0) / change.mean(0).norm().clamp(min=1e-6)
        towards = change @ typical
        # far out in the direction of the class, but not odd, and not far beside it
        beside = (change - towards[:, None] * typical).norm(dim=1)
        fit = towards.clamp(max=float(towards.quantile(0.75))) - beside
        chosen = members[fit.argsort(descending=True, stable=True)[:rows]]
        counts[str(target)] = len(chosen)
        texture = _skin_change(synthesizer, skin, scores, members, own, kept)
        for k, member in enumerate(chosen):
            bank["scores"].append(scores[member])
            bank["shape"].append(synthesizer.shape[kept].mean(0))
            bank["texture"].append(texture)
            bank["mouth"].append(mouth[member])
            bank["pose"].append(pose[member])
            bank["rank"].append(torch.tensor(0.4 * k))
    model = type(synthesizer)(**synthesizer.config | {"rows": counts})
    state = synthesizer.state_dict() | {name: torch.stack(v) for name, v in bank.items()}
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


_ROWS = ("scores", "shape", "texture", "mouth", "pose", "rank")


def _skin_change(
    synthesizer: TransferSynthesizer,
    skin: Tensor,
    scores: Tensor,
    members: Tensor,
    neutral: Tensor,
    kept: Tensor,
) -> Tensor:
    """Return the (K,) change of the skin that a class has beyond what its scores explain."""
    embedded = synthesizer.texture[kept].mean(0)
    if not neutral.any():
        return embedded
    change = skin[members].mean(0) - skin[neutral].mean(0)
    moved = (scores[members].mean(0) - scores[neutral].mean(0)) * synthesizer.moves
    beyond = (change - moved @ synthesizer.appearance) * synthesizer.mask[synthesizer.mask > 0]
    share = len(members) / (len(members) + TRUST)
    return share * beyond + (1 - share) * embedded
