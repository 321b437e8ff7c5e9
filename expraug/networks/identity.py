"""Identity encoders: how alike two faces are as persons.

The dlib face descriptor has embedded weights; FaceNet's are downloaded where it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.errors import MissingDependencyError, MissingWeightsError
from expraug.faces.align import sample
from expraug.networks.batching import independently
from expraug.pretrained import EMBEDDED, load_weights, save_weights

KIND = "identity_encoder"


class IdentityEncoder(Protocol):
    """Maps aligned faces to unit vectors whose inner product says how alike the persons are."""

    name: str
    threshold: float
    """Cosine that 1 % of pairs of different people exceed: above it, two faces pass as one person.
    Printed by `recipes/identity/calibrate.py`."""

    def __call__(self, faces: Tensor) -> Tensor:
        """Return (B, D) unit vectors of aligned faces, (B, 3, S, S) float in [0, 1]."""
        ...


class DlibDescriptor(nn.Module):
    """dlib's face descriptor (King 2009): a residual network (He et al. 2016) of 29 convolutions.

    Its weights are stored as 8-bit integers, with scale and minimum for each tensor, and become
    floats when they are loaded: get one from `load_dlib_descriptor`, as a new one holds zeros.
    """

    name = "dlib-resnet"
    threshold = 0.916
    _MEAN = (122.782, 117.001, 104.298)
    # inputs, outputs, whether the side is halved
    _BLOCKS = (
        *((32, 32, False),) * 3,
        (32, 64, True),
        *((64, 64, False),) * 3,
        (64, 128, True),
        *((128, 128, False),) * 2,
        (128, 256, True),
        *((256, 256, False),) * 2,
        (256, 256, True),
    )
    mean: Tensor
    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(self._MEAN).view(3, 1, 1), persistent=False)
        self.stem = ScaledConvolution(3, 32, 7, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(*block) for block in self._BLOCKS)
        self.projection = StoredTensor(256, 128)
        self.register_buffer("matrix", torch.zeros(256, 128), persistent=False)

    def unpack(self) -> None:
        """Compute the floats that it works with, once the stored tensors are there."""
        self.matrix = self.projection.floats()
        for part in self.modules():
            if isinstance(part, ScaledConvolution):
                part.unpack()

    def forward(self, faces: Tensor) -> Tensor:
        """Return identity vectors, whose bytes do not depend on the batch; differentiable.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.

        Returns:
            (B, 128) float, unit vectors.
        """
        if faces.requires_grad:  # in training all at once is faster, and bytes do not matter
            return self._embed(faces)
        return torch.cat([self._embed(part) for (part,) in independently(faces)])

    def _embed(self, faces: Tensor) -> Tensor:
        x = _window(faces, half=0.42, centre=(0.5, 0.55), size=150)
        x = F.max_pool2d(F.relu(self.stem((x * 255 - self.mean) / 255)), 3, 2)
        for block in self.blocks:
            x = block(x)
        return F.normalize(x.mean((2, 3)) @ self.matrix)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (integers as they are, floats in full) and `config.json`.

        Raises:
            InvalidWeightsError: a value that is not finite.
        """
        save_weights(
            self,
            folder,
            kind=KIND,
            name=self.name,
            version="1",
            config={},
            float32=self.state_dict(),
        )


class StoredTensor(nn.Module):
    """A tensor as it is stored, and the floats that it stands for.

    Args:
        shape: of the tensor.
        integers: stored as uint8, and stands for `scale * values + minimum`; else as float32.
    """

    values: Tensor
    scale: Tensor
    minimum: Tensor

    def __init__(self, *shape: int, integers: bool = True) -> None:
        super().__init__()
        self.integers = integers
        stored = torch.uint8 if integers else torch.float32
        self.register_buffer("values", torch.zeros(shape, dtype=stored))
        if integers:
            self.register_buffer("scale", torch.zeros(()))
            self.register_buffer("minimum", torch.zeros(()))

    def floats(self) -> Tensor:
        """Return what it stands for, float32."""
        stored = self.values.float()
        return stored * self.scale + self.minimum if self.integers else stored


class ScaledConvolution(nn.Module):
    """A convolution and dlib's scale and shift per channel; a strided one takes no padding."""

    kernel: Tensor
    offset: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, size // 2 if stride == 1 else 0
        # face-api leaves the filters of 64 channels as floats
        self.filters = StoredTensor(outputs, inputs, size, size, integers=outputs != 64)
        self.bias, self.gain, self.shift = (StoredTensor(outputs) for _ in range(3))
        self.register_buffer("kernel", torch.zeros(outputs, inputs, size, size), persistent=False)
        self.register_buffer("offset", torch.zeros(outputs), persistent=False)

    def unpack(self) -> None:
        """Fold scale and shift into kernel and offset."""
        gain = self.gain.floats()
        kernel = self.filters.floats() * gain.view(-1, 1, 1, 1)
        # a third faster on the CPU
        self.kernel = kernel.contiguous(memory_format=torch.channels_last)
        self.offset = self.bias.floats() * gain + self.shift.floats()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, self.offset, self.stride, self.padding)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip, which is average-pooled and padded where the side halves."""

    def __init__(self, inputs: int, outputs: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = ScaledConvolution(inputs, outputs, 3, stride=2 if halves else 1)
        self.conv2 = ScaledConvolution(outputs, outputs, 3, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.halves:
            x = F.avg_pool2d(x, 2, 2)
            height, width = (max(x.shape[d], y.shape[d]) for d in (2, 3))
            x = F.pad(
                x, (0, width - x.shape[3], 0, height - x.shape[2], 0, y.shape[1] - x.shape[1])
            )
            y = F.pad(y, (0, width - y.shape[3], 0, height - y.shape[2]))
        return F.relu(x + y)


def load_dlib_descriptor(folder: str | Path | None = None) -> DlibDescriptor:
    """Load the dlib face descriptor, ready for inference.

    Args:
        folder: written by `DlibDescriptor.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError, InvalidWeightsError: nothing there, or something else.
    """
    path = EMBEDDED / "dlib_descriptor" if folder is None else Path(folder)
    descriptor, _ = load_weights(path, KIND, lambda _: DlibDescriptor)
    descriptor.unpack()
    return descriptor


class FacenetEncoder(nn.Module):
    """FaceNet (Schroff et al. 2015) on VGGFace2: facenet-pytorch's InceptionResnetV1, 512-d.

    Args:
        download: fetch the weights (107 MB) where they are not in torch's folder of checkpoints.

    Raises:
        MissingDependencyError: facenet-pytorch is not installed.
        MissingWeightsError: its weights are not there, or cannot be downloaded.
    """

    name = "facenet-vggface2"
    # not calibrated on our frame: the value facenet-pytorch's users verify at, as a cosine
    threshold = 0.5

    def __init__(self, download: bool = True) -> None:
        super().__init__()
        try:
            from facenet_pytorch.models.inception_resnet_v1 import (
                InceptionResnetV1,
                get_torch_home,
            )
        except ImportError as error:
            raise MissingDependencyError(
                "FaceNet needs facenet-pytorch: pip install 'expraug[detect]', or use the identity "
                "encoder 'dlib', whose weights are embedded"
            ) from error
        file = Path(get_torch_home(), "checkpoints", _FACENET_FILE)
        if not download and not file.is_file():
            raise MissingWeightsError(
                f"FaceNet's weights (107 MB) are not in {file.parent}. Ask for the identity "
                f"encoder 'facenet' by name on a machine with network, which downloads them"
            )
        try:
            self.network = InceptionResnetV1(pretrained="vggface2").eval().requires_grad_(False)
        except Exception as error:  # urllib, requests and zip errors alike: no weights
            raise MissingWeightsError(
                f"FaceNet's weights could not be had ({error}). On a machine with network "
                f"download {_FACENET_FILE} from the releases of "
                f"github.com/timesler/facenet-pytorch, and put it into {file.parent} here; or use "
                f"the identity encoder 'dlib', whose weights are embedded"
            ) from error

    def forward(self, faces: Tensor) -> Tensor:
        """Return identity vectors: (B, 512) unit vectors of (B, 3, S, S) floats in [0, 1]."""
        return torch.cat([self._embed(part) for (part,) in independently(faces)])

    def _embed(self, faces: Tensor) -> Tensor:
        # MTCNN crops, which it was trained on, reach from the hairline to the chin
        x = _window(faces, half=0.42, centre=(0.5, 0.55), size=160)
        vectors: Tensor = self.network((x * 255 - 127.5) / 128)
        return vectors


_FACENET_FILE = "20180402-114759-vggface2.pt"


def _window(faces: Tensor, half: float, centre: tuple[float, float], size: int) -> Tensor:
    """Cut a square out of the canonical frame: half its side and its centre are fractions."""
    side = faces.shape[-1]
    matrix = torch.tensor([[2 * half, 0, centre[0] - half], [0, 2 * half, centre[1] - half]]).mul_(
        side
    )
    return sample(faces, matrix.expand(len(faces), 2, 3), (size, size))


_CLASSES: dict[str, type[DlibDescriptor] | type[FacenetEncoder]] = {
    "dlib": DlibDescriptor,
    "facenet": FacenetEncoder,
}
IDENTITY_ENCODERS = tuple(_CLASSES)
"""Names of identity encoders, the default first."""


def identity_encoder_class(name: str | None = None) -> type[DlibDescriptor] | type[FacenetEncoder]:
    """Return the class that `create_identity_encoder` would create, without loading weights.

    Raises:
        ValueError: no encoder of that name.
    """
    if name is None:
        name = IDENTITY_ENCODERS[0]
    if name not in _CLASSES:
        raise ValueError(f"no identity encoder {name!r}; there are {', '.join(_CLASSES)}")
    return _CLASSES[name]


def create_identity_encoder(
    name: str | None = None, *, download: bool = True
) -> DlibDescriptor | FacenetEncoder:
    """Return an identity encoder.

    Args:
        name: "dlib", whose weights are embedded; "facenet", whose weights are downloaded (107 MB)
            when they are first needed; or None for "dlib".
        download: whether weights that are not on this machine are downloaded.

    Raises:
        MissingDependencyError, MissingWeightsError: as `FacenetEncoder` does.
        ValueError: another name.
    """
    made_by = identity_encoder_class(name)
    return load_dlib_descriptor() if made_by is DlibDescriptor else FacenetEncoder(download)
