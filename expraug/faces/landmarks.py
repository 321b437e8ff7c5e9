"""Dense landmarks, expression scores and head pose: the MediaPipe Face Landmarker as a detector."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import math
import os
import tempfile
import urllib.request
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from expraug.errors import MissingDependencyError, MissingWeightsError
from expraug.faces.detect import DetectedFace

MODEL_VARIABLE = "EXPRAUG_LANDMARKER"
"""Environment variable: path of the Face Landmarker's model file."""
MODEL_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task"
)
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"

LANDMARKS, BLENDSHAPES = 478, 52
"""Points of the mesh, the last ten in the irises, and expression scores."""

_LARGEST, _SMALLEST, _SMALL_CROP = 640, 288, 100
"""Longer sides, in pixels: beyond the first an image is reduced, well below the second it is
enlarged, and below the third a photograph is treated as a face crop."""
_MAX_FACES = 4


class LandmarkDetector:
    """Finds faces, their 478 landmarks, 52 blendshape scores and pose with MediaPipe, on the CPU.

    An image is tried in up to three framings: as it is, and with its border repeated around it by
    a quarter and by half of its longer side, since the detector misses faces that fill the image.

    Args:
        mode: "detect" for photographs; "crop" for face crops, whose padded framings come first.
        model: path of the model file. None: the file that `EXPRAUG_LANDMARKER` names, else the
            one in the user's cache folder, which is downloaded once.

    Raises:
        ValueError: another mode.
        MissingDependencyError: on the first image, MediaPipe is not installed.
        MissingWeightsError: on the first image, no model file, or not the one that is expected.
    """

    constant = False
    landmarks = True

    def __init__(
        self, mode: Literal["detect", "crop"] = "detect", model: str | Path | None = None
    ) -> None:
        if mode not in ("detect", "crop"):
            raise ValueError(f"mode must be 'detect' or 'crop', not {mode!r}")
        self.mode, self.model = mode, model
        self.fingerprint = f"mediapipe-{MODEL_SHA256[:8]}-{mode}"
        self._file: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def __call__(self, images: Sequence[np.ndarray]) -> list[DetectedFace | None]:
        return [self._locate(image) for image in images]

    def _locate(self, image: np.ndarray) -> DetectedFace | None:
        if self._file is None:
            _require_mediapipe()
            self._file = find_model(self.model)
        detect = _load(self._file, os.getpid())
        pixels, ratio = _fit(image)
        padded_first = self.mode == "crop" or max(image.shape[:2]) < _SMALL_CROP
        for framed, pad in _framings(pixels, padded_first):
            found = detect(framed)
            if not found.face_landmarks:
                continue
            height, width = framed.shape[:2]
            meshes = [np.array([(p.x, p.y) for p in m], np.float64) for m in found.face_landmarks]
            extents = [np.prod(np.ptp(mesh, axis=0)) for mesh in meshes]
            best = int(np.argmax(extents))
            mesh = ((meshes[best] * (width, height) - pad) / ratio - 0.5).astype(np.float32)
            scores = [category.score for category in found.face_blendshapes[best]]
            return DetectedFace(
                five_points(mesh),
                len(meshes),
                mesh,
                np.array(scores, np.float32),
                pose_angles(np.asarray(found.facial_transformation_matrixes[best])),
            )
        return None


def five_points(mesh: np.ndarray) -> np.ndarray:
    """Return (5, 2) float32 points, in the order of `align.TEMPLATE`, of a (478, 2) mesh."""
    corners = mesh[[[33, 133], [362, 263]]].mean(axis=1)  # of the lids, on either side of an iris
    return np.concatenate([corners, mesh[[1, 61, 291]]]).astype(np.float32)


def pose_angles(matrix: np.ndarray) -> np.ndarray:
    """Return (3,) float32 yaw, pitch and roll in degrees of a (4, 4) facial transformation."""
    rotation = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    yaw = math.asin(min(1.0, max(-1.0, rotation[0, 2])))
    pitch = math.atan2(-rotation[1, 2], rotation[2, 2])
    roll = math.atan2(-rotation[0, 1], rotation[0, 0])
    return np.degrees([yaw, pitch, roll]).astype(np.float32)


def find_model(path: str | Path | None = None) -> Path:
    """Return the path of the Face Landmarker's model file, downloading it if need be.

    Args:
        path: of a local file; None looks where `EXPRAUG_LANDMARKER` says, then in the cache folder.

    Raises:
        MissingWeightsError: no such file, another sha256, or no way to download it.
    """
    local = path or os.environ.get(MODEL_VARIABLE)
    file = Path(local) if local else _cache_folder() / "face_landmarker.task"
    if not local and not file.is_file():
        _download(file)
    if not file.is_file():
        raise MissingWeightsError(f"no Face Landmarker model at {file}: {_how_to_get_it()}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != MODEL_SHA256:
        raise MissingWeightsError(
            f"{file} has sha256 {digest[:12]}…, not {MODEL_SHA256[:12]}…: damaged, or another "
            f"version. Delete it, then {_how_to_get_it()}"
        )
    return file


def missing_landmarks() -> str:
    """Return why landmarks cannot be found here; "" if they can. The model file is downloaded if
    need be."""
    return _missing_landmarks(os.environ.get(MODEL_VARIABLE))


@cache
def _missing_landmarks(_model: str | None) -> str:
    if find_spec("mediapipe") is None:
        return "MediaPipe is not installed (pip install 'expraug[landmarks]')"
    try:
        find_model()
    except MissingWeightsError as error:
        return str(error)
    return ""


def _how_to_get_it() -> str:
    return f"download {MODEL_URL} and set {MODEL_VARIABLE} to the file's path"


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "expraug"


def _download(file: Path) -> None:
    try:
        with urllib.request.urlopen(MODEL_URL, timeout=60) as response:
            data = response.read()
        if hashlib.sha256(data).hexdigest() != MODEL_SHA256:
            raise OSError("what came has another sha256")
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
            part.write(data)
        os.replace(part.name, file)  # whole or not at all, also with several processes at once
    except OSError as error:
        raise MissingWeightsError(
            f"the Face Landmarker model (3.8 MB) could not be downloaded ({error}): on a machine "
            f"with network, {_how_to_get_it()}"
        ) from error


def _require_mediapipe() -> None:
    try:
        import mediapipe  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "landmarks need MediaPipe: pip install 'expraug[landmarks]'"
        ) from error


@cache
def _load(file: Path, process: int) -> Callable[[np.ndarray], Any]:
    """Return a function from (H, W, 3) uint8 to MediaPipe's result.

    It is kept until the process ends, since to destroy a detector can wait for its threads for
    ever; and a forked process needs its own, since the threads stayed with its parent.
    """
    import mediapipe
    from mediapipe.tasks.python import BaseOptions
    from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions

    options = FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(file)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=_MAX_FACES,
        # below the default 0.5: an aligned or padded crop is no usual photograph
        min_face_detection_confidence=0.3,
        min_face_presence_confidence=0.3,
    )
    landmarker = FaceLandmarker.create_from_options(options)
    atexit.register(_keep, weakref.ref(landmarker))

    def detect(pixels: np.ndarray) -> Any:
        return landmarker.detect(
            mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        )

    return detect


def _keep(reference: weakref.ref[Any]) -> None:
    """Keep a landmarker from being destroyed when the interpreter ends.

    By then what its destructor needs is gone already, and it would print a traceback.
    """
    if (landmarker := reference()) is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(landmarker))


def _fit(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the image as (H, W, 3) uint8 at a size to detect at, and by how much it was scaled."""
    longer = max(image.shape[:2])
    ratio = min(_LARGEST / longer, float(max(1, round(_SMALLEST / longer))))
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    if ratio != 1:
        size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.array(picture), ratio


def _framings(pixels: np.ndarray, padded_first: bool) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the image with its border repeated around it, and by how many pixels."""
    for share in (0.25, 0.5, 0.0) if padded_first else (0.0, 0.25, 0.5):
        pad = int(share * max(pixels.shape[:2]))
        yield np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode="edge"), pad
