"""What a face shows beyond the person's own rest, read from one photograph, in shape and in skin.

Both parts are within-person deviations: the difference between a face and the same person's
neutral photographs, predicted linearly from the face alone. The shape's is that of 478 landmarks,
predicted from their principal components and from the blendshape scores, with the pose as
covariate; the skin's is that of log luminance without its local mean, laid out on the face at rest,
predicted from its own components, the shape's deviation, and the pose. How they are learned stands
in `recipes/transfer/deviation.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.faces.composite import luminance
from expraug.faces.warp import resized
from expraug.networks.batching import independently
from expraug.networks.face_mesh import BLENDSHAPES, LANDMARKS

TEXTURE_FRAME = (-0.1, 1.1)
"""Both axes of the texture maps, in canonical units: the chin of a wide-open mouth is inside."""
POSE_TERMS = 13
STEADY_POINTS = 21
"""Landmarks that expressions hardly move: corners of the lids, nose, temples, hair line."""
SIDE = 128
"""Side at which skin is read: the maps hold nothing finer."""
SCORE_SCALE = 3.0
"""Scores times this are of about unit variance."""
_LARGEST_ANGLE = 45  # degrees up to which poses were learned
_FLOOR = 0.06  # added to luminance before its logarithm, which would blow up noise in the dark
_UNTOLD = 0.6  # chosen by how often LFW's validation people look neutral once they should
_LOCAL = 6  # texels: what is broader is lighting


class Deviation(NamedTuple):
    """What B faces show beyond their own rest.

    Args:
        shape: (B, C) along the axes of shape.
        skin: (B, D) along the axes of skin.
    """

    shape: Tensor
    skin: Tensor


class DeviationReader(nn.Module):
    """Reads deviations.

    Args:
        shape_axes, skin_axes: how many axes deviations have.
        level_axes: principal components of the landmarks that shape is read from.
        texels: pixels of the texture maps that skin is read at.
        texture_size: side of the maps.
    """

    if TYPE_CHECKING:  # the buffers

        def __getattr__(self, name: str) -> Tensor: ...

    def __init__(
        self, shape_axes: int, skin_axes: int, level_axes: int, texels: int, texture_size: int
    ) -> None:
        super().__init__()
        self.texture_size = texture_size
        flat = LANDMARKS * 2
        features = 1 + level_axes + BLENDSHAPES
        floats: dict[str, tuple[int, ...]] = {
            # steady points: where they lie, and how yaw and pitch are read off them
            "steady_weight": (STEADY_POINTS,),
            "steady_place": (STEADY_POINTS, 2),
            "steady_turn": (2 * STEADY_POINTS, 2),
            # the mean face at rest, and what the pose does to it
            "rest": (flat,),
            "by_pose": (POSE_TERMS, flat),
            # each divided by its standard deviation
            "level_axes": (flat, level_axes),
            "score_mean": (BLENDSHAPES,),
            # root mean square of what is read off neutral faces, in canonical units
            "usual": (1,),
            "shape_map": (features, shape_axes),
            "shape_axes": (shape_axes, flat),
            "texel_weight": (texels, 3),
            "skin_mean": (texels,),
            "skin_axes": (skin_axes, texels),
            "skin_map": (1 + skin_axes + shape_axes + POSE_TERMS, skin_axes),
        }
        for name, size in floats.items():
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("steady", torch.zeros(STEADY_POINTS, dtype=torch.int16))
        self.register_buffer("texel", torch.zeros(texels, dtype=torch.int16))
        self.register_buffer("texel_vertex", torch.zeros(texels, 3, dtype=torch.int16))

    def forward(
        self, faces: Tensor, landmarks: Tensor, blendshapes: Tensor, pose: Tensor
    ) -> Deviation:
        """Return what faces show, each by itself.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.
            landmarks, blendshapes, pose: as `Synthesizer.needs_landmarks` describes them.
        """
        shape = _product(self.shape_features(landmarks, blendshapes, pose), self.shape_map)
        skin = _product(self.skin_features(faces, landmarks, shape, pose), self.skin_map)
        return Deviation(shape, skin)

    def shape_features(self, landmarks: Tensor, blendshapes: Tensor, pose: Tensor) -> Tensor:
        """Return what the deviation of shape is linear in, (B, 1 + L + 52)."""
        level = _product(self.level(landmarks, pose), self.level_axes)
        one = torch.ones_like(level[:, :1])
        return torch.cat([one, level, SCORE_SCALE * (blendshapes - self.score_mean)], 1)

    def level(self, landmarks: Tensor, pose: Tensor) -> Tensor:
        """Return landmarks as of a face that looks straight ahead, less the mean at rest.

        The pose of a photograph is known to a few degrees only. What is left of yaw and pitch is
        read off the steady points: it must not pass for an expression.
        """
        turn, shift = self.steadying(landmarks)
        laid = (turned(landmarks, turn) + shift).flatten(1)
        level = laid - _product(pose_terms(pose), self.by_pose) - self.rest
        steady = level.view(-1, LANDMARKS, 2)[:, self.steady.long()].flatten(1)
        return level - _product(steady, self.steady_turn @ self.by_pose[:2])

    def skin_features(
        self, faces: Tensor, landmarks: Tensor, shape: Tensor, pose: Tensor
    ) -> Tensor:
        """Return what the deviation of skin is linear in, (B, 1 + D + C + 13)."""
        skin = _product(self.skin(faces, landmarks) - self.skin_mean, self.skin_axes.T)
        return torch.cat([torch.ones_like(skin[:, :1]), skin, shape, pose_terms(pose)], 1)

    def skin(self, faces: Tensor, landmarks: Tensor) -> Tensor:
        """Return log luminance less its local mean at the texels, (B, K).

        Args:
            faces: (B, 3 or 1, S, S) float in [0, 1], aligned.
            landmarks: (B, 478, 2) canonical.
        """
        grey = resized(faces if faces.shape[1] == 1 else luminance(faces), SIDE)
        # all faces' places of a landmark side by side, which are found several times as fast
        rows = landmarks.transpose(0, 1).flatten(1)
        a, b, c = (
            rows.index_select(0, vertex) * share[:, None]
            for vertex, share in zip(
                self.texel_vertex.long().unbind(1), self.texel_weight.unbind(1), strict=True
            )
        )
        places = (a + b + c).unflatten(1, (-1, 2)).transpose(0, 1)
        light = F.grid_sample(
            grey, places[:, None] * 2 - 1, padding_mode="reflection", align_corners=False
        )[:, 0, 0]
        logarithm = torch.log(light + _FLOOR)
        here = self.laid_out(torch.ones_like(logarithm[:1]))
        around = _blur(self.laid_out(logarithm)) / _blur(here).clamp(min=1e-6)
        return logarithm - around.flatten(1)[:, self.texel.long()]

    def laid_out(self, values: Tensor) -> Tensor:
        """Return (B, K) values at the texels as maps, (B, 1, T, T), 0 elsewhere."""
        maps = values.new_zeros(len(values), self.texture_size**2)
        maps[:, self.texel.long()] = values
        return maps.view(-1, 1, self.texture_size, self.texture_size)

    def displacement(self, shape: Tensor, landmarks: Tensor) -> Tensor:
        """Return how landmarks move with a change of shape, (B, 478, 2) canonical.

        Args:
            shape: (B, C) along the axes of shape.
            landmarks: (B, 478, 2) that move.
        """
        still = _product(shape, self.shape_axes)
        turn, _ = self.steadying(landmarks)
        back = torch.linalg.inv(turn)
        return turned(still.view(-1, LANDMARKS, 2), back)

    def lightening(self, skin: Tensor) -> Tensor:
        """Return how log luminance changes with a change of skin, maps (B, 1, T, T)."""
        return self.laid_out(_product(skin, self.skin_axes))

    def beyond_rest(self, deviation: Deviation) -> Deviation:
        """Return what of a source's deviation is taken away.

        What is read off a face at rest is half the person: of a small deviation half stays. And a
        regression tells less than there is: of a large one more is taken away than was read.
        """
        size = self.shape_axes.square().mean(1)
        own = (deviation.shape.square() * size).sum(1, keepdim=True)
        share = own / (own + self.usual.square())
        share = share * (1 + _UNTOLD * share.square())
        return Deviation(deviation.shape * share, deviation.skin * share)

    def steadying(self, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the similarity that lays the steady points over their places.

        Returns:
            (B, 2, 2), which turns and scales, and (B, 1, 2), which shifts.
        """
        points = landmarks[:, self.steady.long()]
        weight = (self.steady_weight / self.steady_weight.sum())[:, None]
        centre, middle = (points * weight).sum(1, keepdim=True), self.steady_place.mul(weight)
        middle = middle.sum(0)
        (x, y), (u, v) = (
            (points - centre).unbind(2),
            (self.steady_place - middle).unbind(1),
        )
        w = weight[:, 0]
        size = (w * (x.square() + y.square())).sum(1)
        a, b = (w * (x * u + y * v)).sum(1) / size, (w * (x * v - y * u)).sum(1) / size
        turn = torch.stack([torch.stack([a, -b], 1), torch.stack([b, a], 1)], 1)
        return turn, middle - turned(centre, turn)


def turned(points: Tensor, turn: Tensor) -> Tensor:
    """Return (B, N, 2) points times (B, 2, 2) matrices, with the same digits in any batch."""
    x, y = points[..., :1], points[..., 1:]
    return x * turn[:, None, :, 0] + y * turn[:, None, :, 1]


def pose_terms(pose: Tensor) -> Tensor:
    """Return (B, 13) polynomials, of third order, of (B, 3) yaw, pitch and roll in degrees."""
    y, p, r = (pose.clamp(-_LARGEST_ANGLE, _LARGEST_ANGLE) / 30).unbind(1)
    third = [y**3, y * y * p, y * p * p, p**3, r * y, r * p, r * r]
    return torch.stack([y, p, r, y * y, y * p, p * p, *third], 1)


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return (B, N) times (N, M), with the same digits in any batch."""
    return torch.cat([row @ matrix for (row,) in independently(rows)])


def _blur(maps: Tensor) -> Tensor:
    """Blur (B, 1, T, T) maps; what lies beside them is 0."""
    blur = _blurring(maps.shape[-1], maps.device, maps.dtype)
    return torch.cat([blur @ some @ blur for (some,) in independently(maps)])


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # it is kept, and may be trained with later
def _blurring(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the (T, T) matrix that blurs along an axis: thrice the means over the nearest 13
    texels, which is nearly a Gaussian."""
    place = torch.arange(side, device=device)
    near = (place[:, None] - place).abs() <= _LOCAL
    once = near.double() / (2 * _LOCAL + 1)
    return (once @ once @ once).to(dtype)
