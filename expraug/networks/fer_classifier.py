"""The classifier: a small FER network that says which expression an aligned face shows.

It is ours, trained by `recipes/fer_classifier/train.py` on real faces of other people than those that
`evaluate` is run on, and stored as safetensors beside its model card. It sees faces at the
resolution of FER2013, so that a sharp photograph is not told from a blurred one by its sharpness.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expraug.errors import MissingWeightsError
from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.synthesizer import CONFIG_FILE, WEIGHTS_FILE

EMBEDDED = Path(__file__).parents[1] / "weights" / "fer_classifier"
SIDE = 48
"""Side of what the classifier sees, in pixels; that of FER2013."""
_MARGIN = 1 / 8  # of the canonical frame: a FER2013 crop holds nothing outside it


class FERClassifier(Protocol):
    """Says which of its expressions aligned faces show."""

    name: str
    expressions: tuple[Expression, ...]

    def probabilities(self, faces: Tensor) -> Tensor:
        """Return (B, E) probabilities, in the order of `expressions`.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.
        """
        ...

    def features(self, faces: Tensor) -> Tensor:
        """Return (B, D) features, as the Fréchet distance compares them."""
        ...


class FERNet(nn.Module):
    """A plain convolutional network on grey faces of 48 px, with 0.7 million parameters.

    Args:
        expressions: names, in the order of its outputs.
        width: channels of the first layer.
    """

    def __init__(self, expressions: Sequence[str], width: int = 40) -> None:
        super().__init__()
        self.config = {"expressions": list(expressions), "width": width}
        self.expressions = tuple(map(Expression.parse, expressions))
        self.name = "fer_classifier"
        w = width
        self.body = nn.Sequential(
            _convolution(1, w, 5, 2),
            _convolution(w, w, 3, 1),
            nn.MaxPool2d(2),
            _convolution(w, 2 * w, 3, 1),
            _convolution(2 * w, 2 * w, 3, 1),
            nn.MaxPool2d(2),
            _convolution(2 * w, 4 * w, 3, 1),
            _convolution(4 * w, 4 * w, 3, 1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(4 * w * 9, 4 * w),
            nn.BatchNorm1d(4 * w),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(4 * w, len(self.expressions)))

    def forward(self, windows: Tensor) -> Tensor:
        """Return (B, E) logits of the standardised windows (B, 1, 48, 48) that `see` cuts."""
        return self.head(self.body(windows))

    @torch.inference_mode()
    def probabilities(self, faces: Tensor) -> Tensor:
        """Return (B, E) probabilities, the mean over each face and its mirror image."""
        windows = see(faces)
        return (self(windows).softmax(1) + self(windows.flip(3)).softmax(1)) / 2

    @torch.inference_mode()
    def features(self, faces: Tensor) -> Tensor:
        """Return (B, 4 * width) activations before the last layer."""
        return self.body(see(faces))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (floats as fp16) and `config.json` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            key: (t.half() if t.is_floating_point() else t).detach().cpu().contiguous()
            for key, t in self.state_dict().items()
        }
        save_file(state, folder / WEIGHTS_FILE)
        digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
        description = {"classifier": self.name, "weights_sha256": digest, "config": self.config}
        (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def see(faces: Tensor) -> Tensor:
    """Return what the classifier sees of aligned faces: grey, the middle of the frame, standardised.

    Args:
        faces: (B, 1 or 3, S, S) float in [0, 1].

    Returns:
        (B, 1, 48, 48) float, of mean 0 and standard deviation near 1.
    """
    grey = luminance(faces) if faces.shape[1] == 3 else faces
    start = round(_MARGIN * grey.shape[-1])
    grey = grey[:, :, start : grey.shape[-2] - start, start : grey.shape[-1] - start]
    if grey.shape[-1] != SIDE:
        grey = F.interpolate(
            grey, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
    return standardise(grey)


def standardise(windows: Tensor) -> Tensor:
    """Return (B, 1, H, W) windows with the brightness and contrast of each taken out."""
    mean = windows.mean((1, 2, 3), keepdim=True)
    # the floor keeps the noise of an empty picture from being blown up
    return (windows - mean) / (windows.std((1, 2, 3), keepdim=True) + 0.02)


def load_fer_classifier(folder: str | Path | None = None) -> FERNet:
    """Load a classifier, ready to classifier.

    Args:
        folder: written by `FERNet.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError: nothing there, or the weights' sha256 is not the recorded one.
    """
    folder = Path(folder or EMBEDDED)
    if not (folder / CONFIG_FILE).is_file():
        raise MissingWeightsError(
            f"no classifier at {folder}: no {CONFIG_FILE} there. Give a folder that "
            f"recipes/fer_classifier/train.py wrote, or leave the choice out for the embedded one"
        )
    description = json.loads((folder / CONFIG_FILE).read_text())
    weights = folder / WEIGHTS_FILE
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != description["weights_sha256"]:
        raise MissingWeightsError(
            f"{weights} does not have the sha256 that {CONFIG_FILE} records: damaged or incomplete"
        )
    classifier = FERNet(**description["config"])
    classifier.load_state_dict(
        {key: t.float() if t.is_floating_point() else t for key, t in load_file(weights).items()}
    )
    classifier.name = f"{description['classifier']}-{digest[:12]}"
    return classifier.eval().requires_grad_(False)
