"""Identity encoders: how alike two faces are as persons."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.errors import InvalidWeightsError, MissingDependencyError, MissingWeightsError
from expraug.faces.align import sample

DLIB_VARIABLE = "EXPRAUG_DLIB_DESCRIPTOR"
"""Environment variable: folder or `.bin` file with the dlib descriptor as face-api packs it."""


class IdentityEncoder(Protocol):
    """Maps aligned faces to unit vectors whose inner product says how alike the persons are."""

    name: str
    threshold: float
    """Cosine that 1 % of pairs of different people exceed: above it, two faces pass as one person.
    Printed by `recipes/calibrate_identity.py`."""

    def __call__(self, faces: Tensor) -> Tensor:
        """Return (B, D) unit vectors of aligned faces, (B, 3, S, S) float in [0, 1]."""
        ...


class FacenetEncoder(nn.Module):
    """FaceNet (Schroff et al. 2015) on VGGFace2: facenet-pytorch's InceptionResnetV1, 512-d.

    Raises:
        MissingDependencyError: facenet-pytorch is not installed.
        MissingWeightsError: its weights (107 MB) cannot be downloaded.
    """

    name = "facenet-vggface2"
    # not calibrated on our frame: the value facenet-pytorch's users verify at, as a cosine
    threshold = 0.5

    def __init__(self) -> None:
        super().__init__()
        try:
            from facenet_pytorch import InceptionResnetV1
        except ImportError as error:
            raise MissingDependencyError(
                "the identity gate needs facenet-pytorch: pip install 'expraug[detect]', or set "
                f"{DLIB_VARIABLE}, or switch the gate off"
            ) from error
        try:
            self.network = InceptionResnetV1(pretrained="vggface2").eval().requires_grad_(False)
        except Exception as error:  # urllib, requests and zip errors alike: no weights
            raise MissingWeightsError(
                f"FaceNet weights could not be downloaded ({error}). Put them into torch's "
                f"checkpoint folder on a machine with network, or set {DLIB_VARIABLE} to the dlib "
                f"descriptor of face-api, or switch the gate off"
            ) from error

    def forward(self, faces: Tensor) -> Tensor:
        # MTCNN crops, which it was trained on, reach from the hairline to the chin
        x = _window(faces, half=0.42, centre=(0.5, 0.55), size=160)
        vectors: Tensor = self.network((x * 255 - 127.5) / 128)
        return vectors


class DlibDescriptor(nn.Module):
    """The dlib face descriptor (King 2017, a 29-layer ResNet, 128-d), on face-api's packed weights.

    Args:
        path: folder that holds `face_recognition_model.bin` and its weights manifest, or the
            `.bin` file.

    Raises:
        MissingWeightsError: files missing.
        InvalidWeightsError: files that do not hold the descriptor.
    """

    name = "dlib-resnet"
    threshold = 0.916
    _MEAN = (122.782, 117.001, 104.298)
    _BLOCKS = (
        *("conv32_1", "conv32_2", "conv32_3"),
        *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
        *("conv128_down", "conv128_1", "conv128_2"),
        *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
    )
    mean: Tensor
    projection: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        tensors = _read_face_api(Path(path))
        self.register_buffer("mean", torch.tensor(self._MEAN).view(3, 1, 1))
        try:
            self.stem = _scaled_conv(tensors, "conv32_down", stride=2)
            self.blocks = nn.ModuleList(_Residual(tensors, name) for name in self._BLOCKS)
            self.register_buffer("projection", tensors["fc"])
            self.eval().requires_grad_(False)
            sound = bool(
                self(torch.full((1, 3, 64, 64), 0.5)).isfinite().all()
            )  # do all shapes fit?
        except (KeyError, ValueError, IndexError, RuntimeError) as error:
            raise InvalidWeightsError(
                f"{path}: not the tensors of the dlib descriptor ({error}). Fetch its files again"
            ) from error
        if not sound:
            raise InvalidWeightsError(f"{path}: values that are not finite. Fetch its files again")

    def forward(self, faces: Tensor) -> Tensor:
        x = _window(faces, half=0.42, centre=(0.5, 0.55), size=150)
        x = F.max_pool2d(F.relu(self.stem((x * 255 - self.mean) / 255)), 3, 2)
        for block in self.blocks:
            x = block(x)
        return F.normalize(x.mean((2, 3)) @ self.projection)


class _Residual(nn.Module):
    """Two 3x3 convolutions and a skip, which a `_down` block average-pools and pads with zeros."""

    def __init__(self, tensors: dict[str, Tensor], name: str) -> None:
        super().__init__()
        self.down = "_down" in name
        self.conv1 = _scaled_conv(tensors, f"{name}/conv1", stride=2 if self.down else 1)
        self.conv2 = _scaled_conv(tensors, f"{name}/conv2", stride=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2, 2)
            height, width = (max(x.shape[d], y.shape[d]) for d in (2, 3))
            x = F.pad(
                x, (0, width - x.shape[3], 0, height - x.shape[2], 0, y.shape[1] - x.shape[1])
            )
            y = F.pad(y, (0, width - y.shape[3], 0, height - y.shape[2]))
        return F.relu(x + y)


def _scaled_conv(tensors: dict[str, Tensor], name: str, stride: int) -> nn.Conv2d:
    """A convolution with dlib's per-channel scale folded in; strided ones take no padding."""
    conv = "conv/" if f"{name}/conv/filters" in tensors else ""
    filters, bias = tensors[f"{name}/{conv}filters"], tensors[f"{name}/{conv}bias"]
    gain, shift = tensors[f"{name}/scale/weights"], tensors[f"{name}/scale/biases"]
    size, _, inputs, outputs = filters.shape
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if stride == 1 else 0)
    layer.weight.data = filters.permute(3, 2, 0, 1).contiguous() * gain.view(-1, 1, 1, 1)
    layer.bias.data = bias * gain + shift  # type: ignore[union-attr]
    return layer


def _read_face_api(path: Path) -> dict[str, Tensor]:
    """Read face-api's weight format: uint8 values with a scale and minimum, or plain float32.

    Raises:
        MissingWeightsError, InvalidWeightsError: files missing, or not of that format.
    """
    folder = path.parent if path.suffix == ".bin" else path
    stem = path.stem if path.suffix == ".bin" else "face_recognition_model"
    try:
        manifest = json.loads((folder / f"{stem}-weights_manifest.json").read_text())
        packed = (folder / f"{stem}.bin").read_bytes()
        tensors, start = {}, 0
        for entry in manifest[0]["weights"]:
            count = int(np.prod(entry["shape"]))
            quantised = entry.get("quantization")
            dtype = np.dtype(np.uint8 if quantised else np.float32)
            values = np.frombuffer(packed, dtype, count, start).astype(np.float32)
            if quantised:
                with np.errstate(invalid="ignore", over="ignore"):  # found by the descriptor
                    values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
            tensors[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
            start += count * dtype.itemsize
    except FileNotFoundError as error:
        raise MissingWeightsError(
            f"{path}: no dlib descriptor as face-api packs it; expected {stem}.bin and "
            f"{stem}-weights_manifest.json"
        ) from error
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InvalidWeightsError(
            f"{path}: {stem}.bin and {stem}-weights_manifest.json do not hold the dlib descriptor "
            f"as face-api packs it ({error}). Fetch both again"
        ) from error
    return tensors


def _window(faces: Tensor, half: float, centre: tuple[float, float], size: int) -> Tensor:
    """Cut a square out of the canonical frame: half its side and its centre are fractions."""
    side = faces.shape[-1]
    matrix = torch.tensor([[2 * half, 0, centre[0] - half], [0, 2 * half, centre[1] - half]]).mul_(
        side
    )
    return sample(faces, matrix.expand(len(faces), 2, 3), (size, size))


def identity_encoder_class(name: str | None = None) -> type[FacenetEncoder] | type[DlibDescriptor]:
    """Return the class that `create_identity_encoder` would create, without loading weights."""
    kind, _, path = (name or ("dlib" if DLIB_VARIABLE in os.environ else "facenet")).partition(":")
    if kind == "facenet":
        return FacenetEncoder
    if kind == "dlib" and (path or DLIB_VARIABLE in os.environ):
        return DlibDescriptor
    raise ValueError(f"no identity encoder {name!r}; use 'facenet' or 'dlib:PATH'")


def create_identity_encoder(name: str | None = None) -> FacenetEncoder | DlibDescriptor:
    """Return an identity encoder.

    Args:
        name: "facenet"; "dlib:PATH"; or None: the dlib descriptor if the environment variable
            `EXPRAUG_DLIB_DESCRIPTOR` names it, else FaceNet.

    Raises:
        MissingDependencyError, MissingWeightsError: as the encoders do.
        ValueError: another name.
    """
    if identity_encoder_class(name) is FacenetEncoder:
        return FacenetEncoder()
    return DlibDescriptor((name or "").partition(":")[2] or os.environ[DLIB_VARIABLE])
