"""The FER classifier: a small network that says which expression an aligned face shows.

It is ours, trained by `recipes/fer_classifier/train.py` on real faces of other people than those
that `evaluate` is run on, and stored as safetensors beside its model card. It sees faces at the
resolution of FER2013, so that a sharp photograph is not told from a blurred one by its sharpness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.pretrained import load_own, save_weights

_KIND = "fer_classifier"
_VERSION = "1"
SIDE = 48
"""Side of what the classifier sees, in pixels; that of FER2013."""
_MARGIN = 1 / 8  # of the canonical frame: a FER2013 crop holds nothing outside it


class FERClassifier(Protocol):
    """Says which of its expressions aligned faces show, to the gate and to `evaluate`."""

    name: str
    """Tells one set of weights from another: part of the gate's fingerprint."""
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
        typical: the probability of each expression that 90 % of real faces of it reach, by name,
            where that is known.
    """

    def __init__(
        self,
        expressions: Sequence[str],
        width: int = 40,
        typical: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"expressions": list(expressions), "width": width}
        if typical is not None:
            self.config["typical"] = dict(typical)
        self.typical = {Expression.parse(name): p for name, p in (typical or {}).items()}
        self.expressions = tuple(map(Expression.parse, expressions))
        self.name = _KIND
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
        logits: Tensor = self.head(self.body(windows))
        return logits

    @torch.inference_mode()
    def probabilities(self, faces: Tensor) -> Tensor:
        """Return (B, E) probabilities, the mean over each face and its mirror image."""
        windows = see(faces)
        both: tuple[Tensor, Tensor] = self(windows), self(windows.flip(3))
        return (both[0].softmax(1) + both[1].softmax(1)) / 2

    @torch.inference_mode()
    def features(self, faces: Tensor) -> Tensor:
        """Return (B, 4 * width) activations before the last layer."""
        features: Tensor = self.body(see(faces))
        return features

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (floats as fp16) and `config.json` into a folder.

        Raises:
            InvalidWeightsError: a value that is not finite, or too large for fp16.
        """
        save_weights(self, folder, kind=_KIND, name=_KIND, version=_VERSION, config=self.config)


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def see(faces: Tensor) -> Tensor:
    """Return what `FERNet` sees of aligned faces: grey, the middle of the frame, standardised.

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
    """Load a FER classifier, ready for inference.

    Args:
        folder: written by `FERNet.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError: nothing there.
        InvalidWeightsError: what is there is damaged, or no FER classifier.
    """
    classifier, description = load_own(_KIND, FERNet, folder)
    classifier.name = f"{description.name}-{description.weights_sha256[:12]}"
    return classifier
