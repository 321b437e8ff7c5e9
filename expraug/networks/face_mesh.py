"""The three nets of MediaPipe's Face Landmarker v2 (Google, Apache-2.0), as torch modules.

BlazeFace (Bazarevsky et al. 2019, arXiv 1907.05047) finds faces, the attention-free face mesh
(Kartynnik et al. 2019, arXiv 1907.06724) gives 478 landmarks of one, and an MLP-mixer on 146 of
them 52 blendshape scores. Layers and weights are the originals' (`recipes/landmarker/convert.py`).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.pretrained import EMBEDDED, load_weights, save_weights

KIND = "face_landmarker"
LANDMARKS, BLENDSHAPES = 478, 52
"""Points of the mesh, the last ten in the irises, and expression scores."""


def _pad_channels(x: Tensor, channels: int) -> Tensor:
    return x if x.shape[1] == channels else F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))


class BlazeBlock(nn.Module):
    """A depthwise-separable convolution beside a skip, which a stride pools."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.outputs = stride, outputs
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        # TensorFlow's SAME padding: an even side with stride 2 is padded at its end alone
        padded = F.pad(x, (1, 1, 1, 1) if self.stride == 1 else (0, 1, 0, 1))
        skip = x if self.stride == 1 else F.max_pool2d(x, 2)
        return F.relu(_pad_channels(skip, self.outputs) + self.pointwise(self.depthwise(padded)))


class FaceDetectorNet(nn.Module):
    """BlazeFace, short range: 896 candidates in a picture of 128 pixels."""

    SIDE = 128

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        widths = [24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88, 96, 96, 96, 96, 96]
        halving = {32, 48}
        blocks = []
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            stride = 2 if (outputs in halving or number == 11) else 1
            blocks.append(BlazeBlock(inputs, outputs, stride))
        self.fine, self.coarse = nn.Sequential(*blocks[:11]), nn.Sequential(*blocks[11:])
        self.score_fine, self.score_coarse = nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)
        self.box_fine, self.box_coarse = nn.Conv2d(88, 32, 1), nn.Conv2d(96, 96, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return candidates.

        Args:
            images: (B, 3, 128, 128) float in [-1, 1].

        Returns:
            (B, 896, 16): centre, size and six keypoints as (x, y), in pixels, relative to the
            anchor; and (B, 896): logits of their scores.
        """
        fine = self.fine(F.relu(self.stem(F.pad(images, (1, 2, 1, 2)))))
        coarse = self.coarse(fine)
        boxes = [
            head(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 16))
            for head, x in ((self.box_fine, fine), (self.box_coarse, coarse))
        ]
        scores = [
            head(x).permute(0, 2, 3, 1).flatten(1)
            for head, x in ((self.score_fine, fine), (self.score_coarse, coarse))
        ]
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class MeshBlock(nn.Module):
    """A bottleneck with a depthwise convolution beside a skip; `down` halves the side."""

    def __init__(self, inputs: int, middle: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down, self.outputs = down, outputs
        self.narrow = nn.Conv2d(inputs, middle, 2, 2) if down else nn.Conv2d(inputs, middle, 1)
        self.slope = nn.PReLU(middle)
        self.depthwise = nn.Conv2d(middle, middle, 3, padding=1, groups=middle)
        self.widen = nn.Conv2d(middle, outputs, 1)
        self.slope_out = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.widen(self.depthwise(self.slope(self.narrow(x))))
        skip = F.max_pool2d(x, 2) if self.down else x
        out: Tensor = self.slope_out(_pad_channels(skip, self.outputs) + y)
        return out


class FaceMeshNet(nn.Module):
    """478 landmarks of the face in a crop of 256 pixels."""

    SIDE = 256

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.slope = nn.Conv2d(3, 16, 3, 2), nn.PReLU(16)
        blocks = [MeshBlock(16, 8, 16, False) for _ in range(4)]
        width = 16
        for middle, outputs in ((16, 32), (32, 64), (64, 128), (64, 128), (64, 128), (64, 128)):
            blocks.append(MeshBlock(width, middle, outputs, True))
            blocks += [MeshBlock(outputs, middle, outputs, False) for _ in range(4)]
            width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.presence = nn.Conv2d(128, 1, 2)
        self.points = nn.Conv2d(128, LANDMARKS * 3, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return landmarks.

        Args:
            crops: (B, 3, 256, 256) float in [0, 1].

        Returns:
            (B, 478, 3): (x, y) in pixels of the crop, and depth in the same unit; and (B,): logits
            of a face being there.
        """
        x = self.blocks(self.slope(self.stem(F.pad(crops, (0, 1, 0, 1)))))
        return self.points(x).flatten(1).unflatten(1, (-1, 3)), self.presence(x).flatten()


class MixerBlock(nn.Module):
    """MLP-mixer (Tolstikhin et al. 2021): across the 97 tokens, then across the 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_tokens, self.norm_channels = (
            nn.LayerNorm(64, eps=1e-6, bias=False) for _ in range(2)
        )
        self.tokens = nn.Sequential(nn.Linear(97, 384), nn.ReLU(), nn.Linear(384, 97))
        self.channels = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm_tokens(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channels(self.norm_channels(x))
        return out


class BlendshapeNet(nn.Module):
    """52 expression scores from landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.to_tokens, self.to_channels = nn.Linear(146, 96), nn.Linear(2, 64)
        self.token = nn.Parameter(torch.zeros(1, 1, 64))
        self.blocks = nn.Sequential(*(MixerBlock() for _ in range(4)))
        self.head = nn.Linear(64, BLENDSHAPES)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, points: Tensor) -> Tensor:
        """Return scores.

        Args:
            points: (B, 478, 2) float, (x, y) in any square unit.

        Returns:
            (B, 52) float in [0, 1], in MediaPipe's order.
        """
        chosen = points[:, list(SUBSET)]
        centred = chosen - chosen.mean(1, keepdim=True)
        x = centred / centred.norm(dim=2, keepdim=True).mean(1, keepdim=True) * self.scale
        x = self.to_channels(self.to_tokens(x.transpose(1, 2)).transpose(1, 2))
        x = self.blocks(torch.cat([self.token.expand(len(x), -1, -1), x], 1))
        scores: Tensor = self.head(x[:, 0]).sigmoid()
        return scores


class FaceLandmarkNets(nn.Module):
    """The three nets, and the canonical mesh that the head's pose is measured against.

    Attributes:
        canonical: (468, 3) float, the mesh at rest, in cm.
        weights: (468,) float, how much each of its points counts for the pose.
    """

    canonical: Tensor
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.detector, self.mesh = FaceDetectorNet(), FaceMeshNet()
        self.blendshapes = BlendshapeNet()
        self.register_buffer("canonical", torch.zeros(468, 3))
        self.register_buffer("weights", torch.zeros(468))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder."""
        save_weights(
            self,
            folder,
            kind=KIND,
            name="face_landmarker",
            version="2",
            config={},
            float32=("canonical", "weights"),
        )


def load_face_landmarker(folder: str | Path | None = None) -> FaceLandmarkNets:
    """Load the nets, ready for inference.

    Args:
        folder: written by `FaceLandmarkNets.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError, InvalidWeightsError: nothing there, or something else.
    """
    path = EMBEDDED / "face_landmarker" if folder is None else Path(folder)
    return load_weights(path, KIND, lambda _: FaceLandmarkNets)[0]


SUBSET = (
    *(0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65),
    *(66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136),
    *(144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168),
    *(172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276),
    *(282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318),
    *(321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380),
    *(381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466),
    *(468, 469, 470, 471, 472, 473, 474, 475, 476, 477),
)
"""The landmarks that blendshape scores are read from."""
