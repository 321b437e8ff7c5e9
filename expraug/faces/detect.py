"""Where the face is in an image: found by a detector, or known because the image is a face crop."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from expraug.errors import MissingDependencyError
from expraug.faces.image import as_array, read_image
from expraug.faces.pixels import Pixels, as_tensor, shrunk, sides
from expraug.threads import map_threads, single_threaded

CROP_POINTS = np.array(
    [[0.305, 0.40], [0.695, 0.40], [0.50, 0.62], [0.336, 0.81], [0.664, 0.81]], np.float64
)
"""Where eyes, nose and mouth corners are in a usual face crop, as fractions of its sides: the
medians over FER2013, made symmetric (`recipes/measure_crop_points.py`)."""


@dataclass(frozen=True)
class DetectedFace:
    """Where a face is; pixel coordinates are (x, y), pixel centres at whole numbers.

    Args:
        points: (5, 2) float32 pixel coordinates, in the order of `align.TEMPLATE`.
        faces: how many faces were found in the image. Detectors give the largest of them, unless
            all are asked for (`detect_faces`).
        mesh: (478, 2) float32 pixel coordinates of MediaPipe's face mesh, if the detector finds
            landmarks.
        blendshapes: (52,) float32 in [0, 1], with `mesh`: expression scores in MediaPipe's order.
        pose: (3,) float32, with `mesh`: yaw, pitch and roll in degrees.
    """

    points: np.ndarray
    faces: int = 1
    mesh: np.ndarray | None = None
    blendshapes: np.ndarray | None = None
    pose: np.ndarray | None = None

    def scaled(self, ratio: float) -> DetectedFace:
        """Return the same face in the image at another size, `ratio` times as large."""

        def scale(points: np.ndarray) -> np.ndarray:
            return ((points + 0.5) * ratio - 0.5).astype(np.float32)

        mesh = None if self.mesh is None else scale(self.mesh)
        return replace(self, points=scale(self.points), mesh=mesh)

    def pack(self) -> np.ndarray:
        """Return all but `faces` as one (n, 2) float32 array, as the cache keeps points."""
        if self.mesh is None or self.blendshapes is None or self.pose is None:
            return self.points
        rest = np.concatenate([self.blendshapes, self.pose, np.zeros(1, np.float32)])
        return np.concatenate([self.points, self.mesh, rest.reshape(-1, 2)]).astype(np.float32)

    @classmethod
    def unpack(cls, packed: np.ndarray, faces: int) -> DetectedFace:
        """Return the location that `pack` gave this array for."""
        if len(packed) == 5:
            return cls(packed, faces)
        rest = packed[-28:].reshape(-1)  # 52 scores, 3 angles and a 0 to make them even
        return cls(packed[:5], faces, packed[5:-28], rest[:52], rest[52:55])


class Detector(Protocol):
    """Finds the largest face of each image.

    One that can tell several faces apart also has `detect_all(images)`, which returns all faces of
    each image, the largest first.
    """

    fingerprint: str
    """Part of the cache key: other points give other pixels."""
    constant: bool
    """Whether the points follow from the image's size alone, so that caching them gains nothing."""
    landmarks: bool
    """Whether locations have `mesh`, `blendshapes` and `pose`, which some synthesizers need."""
    tensors: bool
    """Whether images may also be (1 or 3, H, W) uint8 tensors on any device; else these are copied
    to arrays. One that looks at them there has a `device`, and `to`, which moves it."""

    def __call__(self, images: Sequence[Any]) -> list[DetectedFace | None]:
        """Return a location for each (H, W) or (H, W, 3) uint8 image, None where no face is."""
        ...


class CropDetector:
    """For images that are face crops already, as FER2013 and RAF-DB: the points are given.

    Args:
        points: (5, 2) fractions of width and height, where the set's crops have eyes, nose and
            mouth corners.
    """

    constant = True
    landmarks = False
    tensors = True

    def __init__(self, points: np.ndarray | Sequence[Sequence[float]] = CROP_POINTS) -> None:
        self.points = np.asarray(points, np.float64)
        if self.points.shape != (5, 2):
            raise ValueError(f"crop points must be (5, 2) fractions, not {self.points.shape}")
        self.fingerprint = f"crop-{np.round(self.points, 4).tolist()}"

    def __call__(self, images: Sequence[Pixels]) -> list[DetectedFace | None]:
        sizes = np.array([sides(image)[::-1] for image in images], np.float64).reshape(-1, 2)
        points = (self.points * sizes[:, None] - 0.5).astype(np.float32)
        return [DetectedFace(p) for p in points]


class KnownFaceDetector:
    """For an image of which it is known where the face is: one of several, say.

    Args:
        face: where it is, in every image that this is called with.
    """

    constant = True
    tensors = True

    def __init__(self, face: DetectedFace) -> None:
        self.face = face
        self.landmarks = face.mesh is not None
        digest = hashlib.sha256(np.ascontiguousarray(face.pack(), np.float32).tobytes())
        self.fingerprint = f"known-{digest.hexdigest()[:16]}"

    def __call__(self, images: Sequence[Pixels]) -> list[DetectedFace | None]:
        return [self.face] * len(images)


class MTCNNDetector:
    """For photographs: MTCNN (Zhang et al. 2016) from facenet-pytorch, in batches.

    Images are fitted into a common square first, so a batch may mix sizes; a face needs about a
    sixteenth of the longer side.

    Args:
        device: where the networks run.
        side: side of the common square, in pixels.
        batch_size: images per batch. None: 32 on CUDA, 1 on the CPU, where batches gain no time and
            cost repeatability: MTCNN's last non-maximum suppression breaks ties differently in
            another batch, and points were seen to move by up to 14 of the square's pixels.

    Raises:
        MissingDependencyError: facenet-pytorch is not installed.
    """

    constant = False
    landmarks = False
    tensors = True

    def __init__(
        self, device: str | torch.device = "cpu", side: int = 320, batch_size: int | None = None
    ) -> None:
        self.side, self._batch_size = side, batch_size
        self.fingerprint = f"mtcnn-{side}"
        self.to(device)

    def to(self, device: str | torch.device) -> MTCNNDetector:
        """Move it to a device, and return it; the networks follow with the next images."""
        self.device = torch.device(device)
        self.batch_size = self._batch_size or (32 if self.device.type == "cuda" else 1)
        self._mtcnn: Any = None
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mtcnn": None}  # a worker loads its own

    def __call__(self, images: Sequence[Pixels]) -> list[DetectedFace | None]:
        return [next(iter(faces), None) for faces in self.detect_all(images)]

    def detect_all(self, images: Sequence[Pixels]) -> list[list[DetectedFace]]:
        """Return all faces of each image, the largest first."""
        if self._mtcnn is None:
            self._mtcnn = _load_mtcnn(self.device)
        with single_threaded() as threads:
            starts = range(0, len(images), self.batch_size)
            parts = [images[start : start + self.batch_size] for start in starts]
            cores = threads if self.device.type == "cpu" else 1
            found = map_threads(self._detect, parts, cores)
        return [faces for part in found for faces in part]

    def _detect(self, images: Sequence[Pixels]) -> list[list[DetectedFace]]:
        batch = torch.stack([self._fit(image) for image in images])
        boxes, _, points = self._mtcnn.detect(batch.to(self.device), landmarks=True)
        return [self._faces(*each) for each in zip(images, boxes, points, strict=True)]

    def _fit(self, image: Pixels) -> torch.Tensor:
        """Return the image scaled into the square's top left corner: (side, side, 3) float."""
        shape = sides(image)
        factor = max(shape) // (4 * self.side)
        if factor > 1:  # in floats, all of a large photograph would fill the memory
            image = shrunk(image, factor)
        device = image.device if isinstance(image, torch.Tensor) else torch.device("cpu")
        pixels = as_tensor(image, device)[None]
        ratio = self.side / max(shape)
        size = [max(1, round(side * ratio)) for side in shape]
        pixels = F.interpolate(
            pixels.float(), size, mode="bilinear", antialias=True, align_corners=False
        )
        square = pixels.new_zeros(self.side, self.side, 3)
        square[: size[0], : size[1]] = pixels[0].permute(1, 2, 0)
        return square

    def _faces(self, image: Pixels, boxes: Any, points: Any) -> list[DetectedFace]:
        if boxes is None or len(boxes) == 0:
            return []
        boxes, points = np.asarray(boxes, np.float64), np.asarray(points, np.float64)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        # Last digits differ with hardware; on a quarter-pixel raster the same photograph gets the
        # same points, so the same synthetic face, nearly everywhere.
        points = np.round(points[np.argsort(-area, kind="stable")] * 4) / 4
        ratio = max(sides(image)) / self.side
        placed = ((points + 0.5) * ratio - 0.5).astype(np.float32)
        return [DetectedFace(face, len(boxes)) for face in placed]


def _load_mtcnn(device: torch.device) -> Any:
    try:
        from facenet_pytorch import MTCNN
    except ImportError as error:
        raise MissingDependencyError(
            "finding faces in photographs needs facenet-pytorch: pip install 'expraug[detect]'; "
            "for images that are face crops already, use alignment='crop'"
        ) from error
    return MTCNN(keep_all=True, device=device)


def create_detector(mode: str, device: str | torch.device = "cpu") -> Detector:
    """Return the detector for "crop" (face crops) or "detect" (photographs).

    Both are a `LandmarkDetector`, which finds as many faces as MTCNN in photographs, more in face
    crops, and is faster (`recipes/landmarker/detectors.py`). `MTCNNDetector` and `CropDetector` can
    be given instead.

    Args:
        mode: "crop" or "detect".
        device: where the nets run.

    Raises:
        ValueError: another mode.
    """
    if mode not in ("crop", "detect"):
        raise ValueError(f"alignment must be 'crop' or 'detect', not {mode!r}")
    from expraug.faces.landmarks import LandmarkDetector

    return LandmarkDetector("crop" if mode == "crop" else "detect", device)


def detect_faces(
    images: Sequence[Any],
    *,
    alignment: str | Detector = "detect",
    device: str | torch.device = "cpu",
) -> list[list[DetectedFace]]:
    """Return all faces of each image, the largest first.

    A face needs about a twentieth of the longer side; `MTCNNDetector` finds smaller ones.

    Args:
        images: paths of files, PIL images, (H, W) or (H, W, 1 or 3) arrays, or (1 or 3, H, W)
            tensors; uint8, or float in [0, 1].
        alignment: "detect" for photographs, "crop" for face crops, or a `Detector`.
        device: where the nets run.

    Returns:
        A list per image, empty where no face was found. `augment(..., face=k)` changes the k-th of
        an image.

    Raises:
        TypeError: one image instead of a list of them.
        UnreadableImageError, ValueError: a file that is no image, or an image of another kind.

    Examples:
        >>> ((face,),) = detect_faces(["examples/faces/neutral/london_008.jpg"])
        >>> face.points.shape
        (5, 2)
    """
    if isinstance(images, (str, os.PathLike, Image.Image)) or hasattr(images, "shape"):
        raise TypeError("detect_faces takes a list of images: detect_faces([image])")
    detector = create_detector(alignment, device) if isinstance(alignment, str) else alignment
    paths = (str, os.PathLike)
    arrays = [read_image(Path(i)) if isinstance(i, paths) else as_array(i) for i in images]
    return all_faces(detector, arrays)


def all_faces(detector: Detector, images: Sequence[Pixels]) -> list[list[DetectedFace]]:
    """Return all faces of each image that the detector can tell apart, the largest first."""
    if hasattr(detector, "detect_all"):
        found: list[list[DetectedFace]] = detector.detect_all(images)
        return found
    return [[] if face is None else [face] for face in detector(images)]
