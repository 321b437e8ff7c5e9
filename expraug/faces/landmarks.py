"""Faces, their landmarks, expression scores and head pose, found by the Face Landmarker's nets.

The nets are MediaPipe's, as torch modules with embedded weights (`expraug.networks.face_mesh`):
they run in batches, on any device, and need no download.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.exact import exact
from expraug.faces.blaze import Crop, cut, faces_of, letterboxes, place
from expraug.faces.detect import DetectedFace
from expraug.faces.pixels import Pixels, as_tensor, sides, stack
from expraug.faces.pose import head_poses
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
_ROOM = 32 << 20
"""Pixels of the pictures that are looked at together off the CPU."""
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
            return [faces for some in _together(images) for faces in batch(some)]
        with single_threaded() as threads:
            return map_threads(lambda image: batch([image])[0], images, threads)

    @torch.inference_mode()
    def _batch(self, images: Sequence[Pixels], most: int | None) -> list[list[DetectedFace]]:
        nets = _nets(str(self.device))
        found: list[list[DetectedFace]] = [[] for _ in images]
        groups = [_fit(images, members, self.device) for members in _alike(images)]
        remaining = groups
        for attempt in range(3):
            framed = [self._framed(group, attempt) for group in remaining]
            for i, faces in _find(nets, framed, most).items():
                found[i] = faces
            remaining = [
                group.part([k for k, i in enumerate(group.members) if not found[i]])
                for group in remaining
            ]
            remaining = [group for group in remaining if group.members]
            if not remaining:
                break
        for group in groups:
            if self.mode == "crop" or group.longer < _SMALL_CROP:
                continue
            for i, picture in zip(group.members, group.pictures, strict=True):
                if most is None or not found[i]:
                    found[i] = _with_small(nets, picture, group.ratio, found[i])
        return found

    def _framed(self, group: _Group, attempt: int) -> _Group:
        padded_first = self.mode == "crop" or group.longer < _SMALL_CROP
        share = ((0.25, 0.5, 0.0) if padded_first else (0.0, 0.25, 0.5))[attempt]
        return group.padded(int(share * max(group.pictures.shape[2:])))


@dataclass(frozen=True)
class _Group:
    """Pictures of one size, made of images of one size.

    Args:
        members: places of the images in their batch.
        pictures: (B, 1 or 3, H, W) float in [0, 255].
        ratio: the pictures are so many times as large as the images.
        longer: side of the images, in pixels.
        pad: pixels by which the pictures' border is repeated around them.
    """

    members: Sequence[int]
    pictures: Tensor
    ratio: float
    longer: int
    pad: int = 0

    def part(self, rows: Sequence[int]) -> _Group:
        """Return some of the pictures."""
        members = [self.members[row] for row in rows]
        return replace(self, members=members, pictures=_rows(self.pictures, rows))

    def padded(self, pad: int) -> _Group:
        """Return the pictures with their border repeated around them."""
        if not pad:
            return self
        return replace(self, pictures=F.pad(self.pictures, (pad,) * 4, mode="replicate"), pad=pad)


def _rows(pictures: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some pictures, or all as they are."""
    return pictures if list(rows) == list(range(len(pictures))) else pictures[list(rows)]


def _together(images: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
    """Yield parts of a batch whose pictures, and these in their frames, fit into memory."""
    start, room = 0, _ROOM
    for i, image in enumerate(images):
        height, width = (side * _ratio(image) for side in sides(image))
        room -= int(height * width)
        if room < 0 and i > start:
            yield images[start:i]
            start, room = i, _ROOM - int(height * width)
    if start < len(images):
        yield images[start:]


def _alike(images: Sequence[Pixels]) -> list[list[int]]:
    """Return the places of images that are of one kind and size."""
    found: dict[tuple[object, ...], list[int]] = {}
    for i, image in enumerate(images):
        found.setdefault((type(image), *image.shape), []).append(i)
    return list(found.values())


def _find(nets: _Nets, groups: Sequence[_Group], most: int | None) -> dict[int, list[DetectedFace]]:
    """Return the `most` largest faces of each image in which there are any."""
    owners = [(group, i) for group in groups for i in group.members]
    found = [apart(meshes) for meshes in _meshes(nets, [group.pictures for group in groups])]
    which = [k for k, meshes in enumerate(found) for _ in meshes[:most]]
    faces = iter(
        _faces(
            nets,
            [mesh for meshes in found for mesh in meshes[:most]],
            [owners[k][0] for k in which],
            [len(found[k]) for k in which],
        )
    )
    return {
        i: [next(faces) for _ in meshes[:most]]
        for (_, i), meshes in zip(owners, found, strict=True)
        if meshes
    }


def _with_small(
    nets: _Nets, picture: Tensor, ratio: float, known: Sequence[DetectedFace]
) -> list[DetectedFace]:
    """Return the known faces of an image and those found in parts of its picture.

    The picture is `ratio` times as large as the image.
    """
    height, width = picture.shape[1:]
    parts = parts_of(height, width)
    pictures = [picture[:, p.top : p.bottom, p.left : p.right] for p in parts]
    more = []
    for part, meshes in zip(parts, _meshes(nets, [torch.stack(pictures)]), strict=True):
        corner = np.array([part.left, part.top, 0])
        placed = [mesh + corner for mesh in meshes]
        more += [mesh for mesh in placed if lies_in(mesh, part, height, width)]
    there = [face.scaled(ratio).mesh for face in known]
    new = apart(more, [mesh + 0.5 for mesh in there if mesh is not None])
    count = len(known) + len(new)
    whole = _Group([0], picture[None], ratio, 0)
    faces = [replace(face, faces=count) for face in known]
    faces += _faces(nets, new, [whole] * len(new), [count] * len(new))
    return sorted(faces, key=lambda face: -area_of(np.asarray(face.mesh)))


def _meshes(nets: _Nets, groups: Sequence[Tensor]) -> list[list[np.ndarray]]:
    """Return the meshes in each of several batches of pictures, (478, 3) each, in pixels of it."""
    squares = _joined([letterboxes(pictures) for pictures in groups])
    told = [nets.detector(part) for (part,) in independently(squares)]
    boxes, logits = (_joined(column) for column in zip(*told, strict=True))
    sizes = [(int(p.shape[2]), int(p.shape[3])) for p in groups for _ in p]
    crops = faces_of(boxes, logits, sizes, SURE, _MAX_FACES)
    found: list[list[np.ndarray]] = [[] for _ in crops]
    cuts, owners, start = [], [], 0
    for pictures in groups:
        of_group = crops[start : start + len(pictures)]
        rows = [row for row, there in enumerate(of_group) for _ in there]
        owners += [start + row for row in rows]
        start += len(pictures)
        if rows:
            there = [crop for crops_of_one in of_group for crop in crops_of_one]
            cuts.append(cut(_rows(pictures, rows), there, FaceMeshNet.SIDE))
    if not cuts:
        return found
    parts = [nets.mesh(part) for (part,) in independently(_joined(cuts) / 255)]
    points, presence = (_joined(column) for column in zip(*parts, strict=True))
    # to the host in one go
    read = torch.cat([presence.sigmoid()[:, None], points.flatten(1)], 1).cpu().double().numpy()
    every = [crop for crops_of_one in crops for crop in crops_of_one]
    meshes = place(read[:, 1:].reshape(len(read), -1, 3), every, FaceMeshNet.SIDE)
    for owner, mesh, probability in zip(owners, meshes, read[:, 0], strict=True):
        if probability >= SURE:
            found[owner].append(mesh)
    return found


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _scores(nets: _Nets, meshes: np.ndarray) -> np.ndarray:
    """Return the blendshape scores, (B, 52), of (B, 478, 3) meshes."""
    points = torch.from_numpy(meshes[..., :2]).float().to(nets.canonical.device)
    scores = _joined([nets.blendshapes(part) for (part,) in independently(points)])
    return np.asarray(scores.cpu().numpy())


def _faces(
    nets: _Nets, meshes: Sequence[np.ndarray], groups: Sequence[_Group], counts: Sequence[int]
) -> list[DetectedFace]:
    """Return faces in pixels of their images.

    Args:
        nets: read the scores.
        meshes: (478, 3) each, in pixels of pictures.
        groups: that the pictures are of.
        counts: of the faces in each image.
    """
    if not meshes:
        return []
    together = np.stack(meshes)
    sizes = np.array([group.pictures.shape[2:] for group in groups])
    poses = head_poses(together, sizes, *_at_rest(str(nets.canonical.device)))
    pads = np.array([group.pad for group in groups])[:, None, None]
    inside = (together[..., :2] - pads - 0.5).astype(np.float32)
    back = np.array([1 / group.ratio for group in groups], np.float32)[:, None, None]
    points, inside = (
        (places + np.float32(0.5)) * back - np.float32(0.5)
        for places in (five_points(inside), inside)
    )
    columns = zip(points, counts, inside, _scores(nets, together), poses, strict=True)
    return [DetectedFace(*face) for face in columns]


def five_points(meshes: np.ndarray) -> np.ndarray:
    """Return (..., 5, 2) float32 points, in the order of `align.TEMPLATE`, of (..., 478, 2)."""
    lids = meshes[..., [[33, 133], [362, 263]], :].mean(axis=-2)  # on either side of an iris
    return np.concatenate([lids, meshes[..., [1, 61, 291], :]], axis=-2).astype(np.float32)


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
    pixels = cut(faces, [crop], FaceMeshNet.SIDE)
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


def _ratio(image: Pixels) -> float:
    """Return by how much an image is scaled before it is looked at."""
    longer = max(sides(image))
    return min(_LARGEST / longer, float(max(1, round(_SMALLEST / longer))))


def _fit(images: Sequence[Pixels], members: Sequence[int], device: torch.device) -> _Group:
    """Return images of one kind and size as pictures at a size to detect at."""
    first = images[members[0]]
    if len(members) == 1:
        pictures = as_tensor(first, device)[None]
    else:
        pictures = stack([images[i] for i in members]).to(device)
    ratio = _ratio(first)
    if ratio != 1:
        size = [max(1, round(side * ratio)) for side in sides(first)]
        pictures = _resized(pictures, size)
    return _Group(members, pictures.float(), ratio, max(sides(first)))


def _resized(pictures: Tensor, size: list[int]) -> Tensor:
    """Resize (B, C, H, W) uint8 pictures to (height, width), bicubic.

    As torchvision's `resize` does, whose import takes every process as long as that of torch.
    """
    here = pictures.device.type == "cpu"
    values = pictures if here else pictures.float()
    made = F.interpolate(values, size, mode="bicubic", antialias=True)
    if pictures.is_contiguous(memory_format=torch.channels_last):
        made = made.contiguous(memory_format=torch.channels_last)
    return made if here else made.round().clamp(0, 255)
