"""Which expression a face shows by its blendshape scores alone: a linear classifier.

It knows nothing of light and texture, so it is a second opinion to whatever changes these. Trained
by `recipes/landmark_classifier/train.py`, stored as safetensors beside its model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.networks.face_mesh import BLENDSHAPES
from expraug.pretrained import EMBEDDED, find_weights, load_weights, save_weights

_KIND = "landmark_classifier"
_VERSION = "2"


class LandmarkClassifier(nn.Module):
    """Logits that are linear in the Face Landmarker's 52 blendshape scores.

    Args:
        expressions: names, in the order of its outputs.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, expressions: Sequence[str]) -> None:
        super().__init__()
        self.config = {"expressions": list(expressions)}
        self.expressions = tuple(map(Expression.parse, expressions))
        self.register_buffer("weight", torch.zeros(len(self.expressions), BLENDSHAPES))
        self.register_buffer("bias", torch.zeros(len(self.expressions)))

    def logits(self, blendshapes: Tensor) -> Tensor:
        """Return (B, E) logits, in the order of `expressions`, of (B, 52) scores in [0, 1]."""
        # term by term: a matrix product adds in an order that depends on the size of the batch
        return (blendshapes[:, None] * self.weight).sum(2) + self.bias

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (fp32) and `config.json` into a folder.

        Raises:
            InvalidWeightsError: a value that is not finite.
        """
        save_weights(
            self,
            folder,
            kind=_KIND,
            name=_KIND,
            version=_VERSION,
            config=self.config,
            float32=("weight", "bias"),
        )


def load_landmark_classifier(folder: str | Path | None = None) -> LandmarkClassifier:
    """Load a classifier.

    Args:
        folder: written by `LandmarkClassifier.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError: nothing there.
        InvalidWeightsError: what is there is damaged, or no landmark classifier.
    """
    found = EMBEDDED / _KIND if folder is None else find_weights(folder)
    classifier, _ = load_weights(found, _KIND, lambda _: LandmarkClassifier)
    return classifier
