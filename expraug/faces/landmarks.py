"""Faces, their landmarks, expression scores and head pose, found by the Face Landmarker's nets.

The nets are MediaPipe's, as torch modules with embedded weights (`expraug.networks.face_mesh`):
they run in batches, on any device, and need no download.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from expraug.exact import exact
from expraug.faces.blaze import Crop, cut, cut_alike, faces_of, letterboxes, place
from expraug.faces.detect import DetectedFace
from expraug.faces.pixels import Pixels, as_tensor, sides
from expraug.faces.pose import head_pose
from expraug.faces.several import apart, area_of, lies_in, parts_of
from expraug.networks.batching import independently
from expraug.networks.face_mesh import (
    BLENDSHAPES,
    LANDMARKS,
    FaceLandmarkNets,
    FaceMeshNet,
    load_face_landmarker,
)
from expraug.networks.face_mesh_cpu import NetsOnCPU
from expraug.threads import map_threads, single_threaded

_LARGEST, _SMALLEST, _SMALL_CROP = 640, 288, 100
"""Longer sides, in pixels: beyond the first an image is reduced, well below the second it is
enlarged, and below the third a photograph is looked at as a face crop."""
SURE = 0.3
"""Least probability of a face, and of its landmarks: an aligned or padded crop is no usual
photograph."""
_MAX_FACES = 16
_ALIGNED_CENTRE, _ALIGNED_SIDE = (0.5, 0.555), 1.145
"""Where the detector would put its crop in the canonical frame, as fractions of the frame: medians
over faces of LFW, FER2013 and London."""

_Nets: TypeAlias = FaceLandmarkNets | NetsOnCPU


class LandmarkDetector:
    """Finds faces, their 478 landmarks, 52 blendshape scores and pose.

    An image is tried in up to three framings: as it is, and with its border repeated around it by
    a quarter and by half of its longer side, since the detector misses faces that fill the image.
    Faces under about a tenth of a photograph's longer side are missed as well: where there is no
    larger one, and where all faces are asked for, they are looked for in parts of it, down to
    about a twentieth.

    Args:
        mode: "detect" for photographs; "crop" for face crops, whose padded framings come first.
        device: where the nets run.

    Raises:
        ValueError: another mode.
    """

    constant = False
    landmarks = True
    tensors = True

    def __init__(
        self, mode: Literal["detect", "crop"] = "detect", device: str | torch.device = "cpu"
    ) -> None:
        if mode not in ("detect", "crop"):
            raise ValueError(f"mode must be 'detect' or 'crop', not {mode!r}")
        self.mode = mode
        self.fingerprint = f"face-landmarker-3-{mode}"
        self.to(device)

    def to(self, device: str | torch.device) -> LandmarkDetector:
        """Move it to a device, and return it."""
        self.device = torch.device(device)
        return self

    def __call__(self, images: Sequence[Pixels]) -> list[DetectedFace | None]:
        return [next(iter(faces), None) for faces in self._detect(images, 1)]

    def detect_all(self, images: Sequence[Pixels]) -> list[list[DetectedFace]]:
        """Return all faces of each image, the largest first."""
        return self._detect(images, None)

    def _detect(self, images: Sequence[Pixels], most: int | None) -> list[list[DetectedFace]]:
        def batch(some: Sequence[Pixels]) -> list[list[DetectedFace]]:
            with exact(self.device):
                return self._batch(some, most)

        if self.device.type != "cpu":
            return batch(images)
        with single_threaded() as threads:
            return map_threads(lambda image: batch([image])[0], images, threads)

    @torch.inference_mode()
    def _batch(self, images: Sequence[Pixels], most: int | None) -> list[list[DetectedFace]]:
        nets = _nets(str(self.device))
        found: list[list[DetectedFace]] = [[] for _ in images]
        pictures = [_fit(image, self.device) for image in images]
        remaining = list(range(len(images)))
        for attempt in range(3):
            framed = []
            for i in remaining:
                padded_first = self.mode == "crop" or max(sides(images[i])) < _SMALL_CROP
                share = ((0.25, 0.5, 0.0) if padded_first else (0.0, 0.25, 0.5))[attempt]
                pad = int(share * max(pictures[i][0].shape[1:]))
                framed.append((_padded(pictures[i][0], pad), pad))
            for i, faces in zip(remaining, _find(nets, framed, most), strict=True):
                found[i] = [face.scaled(1 / pictures[i][1]) for face in faces]
            remaining = [i for i in remaining if not found[i]]
            if not remaining:
                break
        for i, image in enumerate(images):
            small = self.mode == "crop" or max(image.shape[:2]) < _SMALL_CROP
            if not small and (most is None or not found[i]):
                found[i] = _with_small(nets, *pictures[i], found[i])
        return found


def _find(
    nets: _Nets, framed: Sequence[tuple[Tensor, int]], most: int | None
) -> list[list[DetectedFace]]:
    """Return the `most` largest faces of each picture, in pixels before it was padded."""
    found = [apart(meshes) for meshes in _meshes(nets, [picture for picture, _ in framed])]
    scores = iter(_scores(nets, [mesh for meshes in found for mesh in meshes[:most]]))
    return [
        [_face(nets, mesh, next(scores), len(meshes), picture, pad) for mesh in meshes[:most]]
        for meshes, (picture, pad) in zip(found, framed, strict=True)
    ]


def _with_small(
    nets: _Nets,
    picture: Tensor,
    ratio: float,
    known: Sequence[DetectedFace],
) -> list[DetectedFace]:
    """Return the known faces of an image and those found in parts of its picture.

    The picture is `ratio` times as large as the image.
    """
    height, width = picture.shape[1:]
    parts = parts_of(height, width)
    pictures = [picture[:, p.top : p.bottom, p.left : p.right] for p in parts]
    more = []
    for part, meshes in zip(parts, _meshes(nets, pictures), strict=True):
        corner = np.array([part.left, part.top, 0])
        placed = [mesh + corner for mesh in meshes]
        more += [mesh for mesh in placed if lies_in(mesh, part, height, width)]
    there = [face.scaled(ratio).mesh for face in known]
    new = apart(more, [mesh + 0.5 for mesh in there if mesh is not None])
    count = len(known) + len(new)
    faces = [replace(face, faces=count) for face in known]
    faces += [
        _face(nets, mesh, scores, count, picture, 0).scaled(1 / ratio)
        for mesh, scores in zip(new, _scores(nets, new), strict=True)
    ]
    return sorted(faces, key=lambda face: -area_of(np.asarray(face.mesh)))


def _meshes(nets: _Nets, pictures: Sequence[Tensor]) -> list[list[np.ndarray]]:
    """Return the meshes in each picture, (478, 3) each, in pixels of it."""
    squares = _squares(pictures)
    crops: list[tuple[int, Crop]] = []
    number = 0
    for (part,) in independently(squares):
        # to the host in one go: it would have to wait for each picture otherwise
        told = (values.cpu() for values in nets.detector(part))
        for boxes, logits in zip(*told, strict=True):
            size = (pictures[number].shape[1], pictures[number].shape[2])
            crops += [(number, c) for c in faces_of(boxes, logits, size, SURE, _MAX_FACES)]
            number += 1
    found: list[list[np.ndarray]] = [[] for _ in pictures]
    if crops:
        side = FaceMeshNet.SIDE
        pixels = torch.stack([cut(pictures[i], crop, side) / 255 for i, crop in crops])
        parts = [nets.mesh(part) for (part,) in independently(pixels)]
        meshes = torch.cat([points for points, _ in parts]).cpu().double().numpy()
        sure = torch.cat([logits for _, logits in parts]).sigmoid().tolist()
        for (i, crop), mesh, probability in zip(crops, meshes, sure, strict=True):
            if probability >= SURE:
                found[i].append(place(mesh, crop, side))
    return found


def _squares(pictures: Sequence[Tensor]) -> Tensor:
    """Return what the detector sees of pictures, (B, 3, 128, 128); those of one size together."""
    if pictures[0].device.type == "cpu":
        return torch.stack([letterboxes(picture[None])[0] for picture in pictures])
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, picture in enumerate(pictures):
        by_size.setdefault(tuple(picture.shape), []).append(i)
    squares: dict[int, Tensor] = {}
    for members in by_size.values():
        together = letterboxes(torch.stack([pictures[i] for i in members]))
        squares |= dict(zip(members, together, strict=True))
    return torch.stack([squares[i] for i in range(len(pictures))])


def _scores(nets: _Nets, meshes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the blendshape scores, (52,) each, of (478, 3) meshes."""
    if not meshes:
        return []
    points = torch.from_numpy(np.stack([mesh[:, :2] for mesh in meshes])).float()
    points = points.to(nets.canonical.device)
    parts = [nets.blendshapes(part) for (part,) in independently(points)]
    return list(torch.cat(parts).cpu().numpy())


def _face(
    nets: _Nets, mesh: np.ndarray, scores: np.ndarray, number: int, picture: Tensor, pad: int
) -> DetectedFace:
    """Return one of so many faces of a picture, with its pose."""
    size = (picture.shape[1], picture.shape[2])
    pose = head_pose(mesh, size, *_at_rest(str(picture.device)))
    inside = (mesh[:, :2] - pad - 0.5).astype(np.float32)
    return DetectedFace(five_points(inside), number, inside, scores, pose)


def five_points(mesh: np.ndarray) -> np.ndarray:
    """Return (5, 2) float32 points, in the order of `align.TEMPLATE`, of a (478, 2) mesh."""
    corners = mesh[[[33, 133], [362, 263]]].mean(axis=1)  # of the lids, on either side of an iris
    return np.concatenate([corners, mesh[[1, 61, 291]]]).astype(np.float32)


def read_aligned(faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Read landmarks and scores off aligned faces, without looking for where they are.

    Args:
        faces: (B, 3, S, S) float in [0, 1], in the canonical frame.

    Returns:
        (B, 478, 2) landmarks, (x, y) as fractions of the frame's side; (B, 52) scores in [0, 1];
        and (B,), the probability of a face being there.
    """
    if len(faces) == 0:
        return faces.new_zeros(0, LANDMARKS, 2), faces.new_zeros(0, BLENDSHAPES), faces.new_zeros(0)
    if faces.device.type != "cpu" or len(faces) < 2:
        return _read_aligned(faces)
    with single_threaded() as threads:  # each face comes by itself anyway
        parts = map_threads(_read_aligned, faces.split(1), threads)
    landmarks, scores, sure = (torch.cat(part) for part in zip(*parts, strict=True))
    return landmarks, scores, sure


@torch.inference_mode()
def _read_aligned(faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    nets, side = _nets(str(faces.device)), float(faces.shape[-1])
    centre = (_ALIGNED_CENTRE[0] * side, _ALIGNED_CENTRE[1] * side)
    crop = Crop(centre, _ALIGNED_SIDE * side, 0.0)
    pixels = cut_alike(faces, crop, FaceMeshNet.SIDE)
    parts = [(*nets.mesh(part),) for (part,) in independently(pixels)]
    points = torch.cat([part[0] for part in parts])[..., :2] / FaceMeshNet.SIDE
    scores = torch.cat([nets.blendshapes(part) for (part,) in independently(points)])
    corner = torch.tensor(_ALIGNED_CENTRE, device=faces.device) - _ALIGNED_SIDE / 2
    sure = torch.cat([part[1] for part in parts]).sigmoid()
    return points * _ALIGNED_SIDE + corner, scores, sure


@lru_cache(maxsize=4)
def _nets(device: str) -> _Nets:
    nets = load_face_landmarker()
    return NetsOnCPU(nets) if device == "cpu" else nets.to(device)


@lru_cache(maxsize=4)
def _at_rest(device: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the canonical mesh and the weights of its points, on the host."""
    nets = _nets(device)
    return nets.canonical.cpu().numpy(), nets.weights.cpu().numpy()


def _fit(image: Pixels, device: torch.device) -> tuple[Tensor, float]:
    """Return the image as (3, H, W) float at a size to detect at, and by how much it was scaled."""
    longer = max(sides(image))
    ratio = min(_LARGEST / longer, float(max(1, round(_SMALLEST / longer))))
    picture = as_tensor(image, device)[None]
    if ratio != 1:
        size = [max(1, round(side * ratio)) for side in picture.shape[2:]]
        picture = resize(picture, size, InterpolationMode.BICUBIC, antialias=True)
    return picture[0].float().expand(3, -1, -1), ratio


def _padded(picture: Tensor, pad: int) -> Tensor:
    """Return the picture with its border repeated around it by so many pixels."""
    if not pad:
        return picture
    channels = picture[:1] if picture.stride(0) == 0 else picture  # of a grey one only one
    return F.pad(channels[None], (pad,) * 4, mode="replicate")[0].expand(3, -1, -1)
