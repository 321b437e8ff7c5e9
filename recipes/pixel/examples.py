"""What `pixel` is fitted on: pairs of faces, laid over the mean face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.mouth import painted_share
from expraug.synthesizers.pixel import FRAME_SIDE, laid_over, log_luminance
from recipes.pairs.made import Pairs
from recipes.pairs.moves import displaced
from recipes.real_faces import Faces
from recipes.transfer.mesh import face_samples, flip, mirror_index

BATCH = 256
CORNERS = (61, 291)
"""Corners of the mouth, left and right in the picture."""


@dataclass
class MeanFace:
    """The face over which others are laid, in canonical units.

    Args:
        mesh: (478, 2) float64, the same mirrored.
        steady: (478,) float64, how much a landmark counts where faces are laid over it.
        side: of the maps that lie on it.
    """

    mesh: Tensor
    steady: Tensor
    side: int

    def __post_init__(self) -> None:
        self.mirror = torch.from_numpy(mirror_index(self.mesh.numpy()))
        vertex, share, texel = face_samples(self.mesh.numpy(), self.side)
        inner = (vertex < len(self.mesh)).all(1)
        self.vertex, self.texel = (torch.from_numpy(x[inner]) for x in (vertex, texel))
        self.share = torch.from_numpy(share[inner])[..., None]

    def laid(self, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 478, 2) landmarks laid over the mean face, and the turns, (B, 1) complex."""
        return laid_over(landmarks.double(), self.mesh, self.steady)

    def maps(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Return (B, 1, s, s) images of faces with these landmarks, laid over the mean face: (B,
        side, side), 0 beside it."""
        places = (landmarks.double()[:, self.vertex] * self.share).sum(2).to(images)
        found = F.grid_sample(
            images, places[:, None] * 2 - 1, padding_mode="border", align_corners=False
        )
        maps = images.new_zeros(len(images), self.side**2)
        maps[:, self.texel] = found[:, 0, 0]
        return maps.view(-1, self.side, self.side)

    def mirrored(self, points: Tensor) -> Tensor:
        """Return laid landmarks, (B, 478, 2), of mirrored faces."""
        return torch.from_numpy(flip(points[:, self.mirror].numpy()))


@dataclass
class Examples:
    """N pairs, laid over the mean face.

    Args:
        shown, target: (N,) long, values of `Expression`.
        person: (N,) long.
        weight: (N,) float, how much each counts.
        laid, moved: (N, 478, 2) float64 landmarks, before and after.
        light, lightening: (N, side, side) float16, log luminance and its change.
        interior: (N, 6, 12) float, how light the inside of the mouth is, and
        opened: (N,) float in [0, 1], how much of it is new.
    """

    shown: Tensor
    target: Tensor
    person: Tensor
    weight: Tensor
    laid: Tensor
    moved: Tensor
    light: Tensor
    lightening: Tensor
    interior: Tensor
    opened: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, which: Tensor) -> Examples:
        """Return the examples at an index or mask."""
        return Examples(**{name: values[which] for name, values in vars(self).items()})

    @classmethod
    def joined(cls, parts: list[Examples]) -> Examples:
        """Return several as one."""
        names = vars(parts[0])
        return cls(**{n: torch.cat([vars(part)[n] for part in parts]) for n in names})


def of_pairs(pairs: Pairs, face: MeanFace) -> Examples:
    """Return what `recipes.pairs.make_pairs` made as examples."""
    parts = []
    for start in range(0, len(pairs), BATCH):
        rows = np.arange(start, min(start + BATCH, len(pairs)))
        source = pairs.source[rows]
        before = torch.from_numpy(np.array(pairs.mesh[source], np.float32))
        maps = pairs.maps(rows)
        after = displaced(before, maps)
        laid, turn = face.laid(before)
        moved = torch.view_as_complex((after - before).double()) * turn
        light = log_luminance(F.interpolate(pairs.faces(rows), (FRAME_SIDE,) * 2, mode="area"))
        parts.append(
            Examples(
                torch.from_numpy(np.array(pairs.shown[source])),
                torch.from_numpy(np.array(pairs.target[rows])),
                torch.from_numpy(np.array(pairs.person[source])),
                torch.ones(len(rows)),
                laid,
                laid + torch.view_as_real(moved),
                face.maps(light, before).half(),
                face.maps(maps.lightening, after).half(),
                maps.interior,
                painted_share(maps.lips, maps.moved_lips)[:, 0],
            )
        )
    return Examples.joined(parts)


def of_photographs(faces: Faces, face: MeanFace) -> Examples:
    """Return each person's photographs, one taken for what becomes of the other."""
    rows = np.array(list(_photographs(faces)))
    before, after = (torch.from_numpy(faces.mesh[r, :, :2]) for r in rows.T)
    grey = torch.from_numpy(faces.grey().numpy()).float() / 255
    light = log_luminance(F.interpolate(grey, (FRAME_SIDE,) * 2, mode="area"))
    was, becomes = (face.maps(light[r], m) for r, m in zip(rows.T, (before, after), strict=True))
    _, person = np.unique(faces.person, return_inverse=True)
    shown, target = (torch.from_numpy(faces.expression[r].astype(np.int64)) for r in rows.T)
    return Examples(
        shown,
        target,
        -1 - torch.from_numpy(person[rows[:, 0]]),
        torch.ones(len(rows)),
        face.laid(before)[0],
        face.laid(after)[0],
        was.half(),
        (becomes - was).half(),
        torch.zeros(len(rows), 6, 12),
        torch.zeros(len(rows)),
    )


def _photographs(faces: Faces) -> Iterator[tuple[int, int]]:
    """Yield places of two photographs of one person with different expressions."""
    for person in sorted(set(faces.person)):
        rows = np.flatnonzero(faces.person == person)
        for one in rows:
            for other in rows:
                if faces.expression[one] != faces.expression[other]:
                    yield int(one), int(other)


def both_ways(examples: Examples, face: MeanFace) -> Examples:
    """Return the examples and their mirror images; of contempt, which lifts one corner of the
    mouth, whichever lifts the left one."""
    mirrored = Examples(
        **vars(examples)
        | {
            "laid": face.mirrored(examples.laid),
            "moved": face.mirrored(examples.moved),
            "light": examples.light.flip(2),
            "lightening": examples.lightening.flip(2),
            "interior": examples.interior.flip(2),
        }
    )
    both = Examples.joined([examples, mirrored])
    up = (both.laid - both.moved)[:, CORNERS, 1]
    return both.take((both.target != int(Expression.CONTEMPT)) | (up[:, 0] > up[:, 1]))
