"""Which expression a face shows by its blendshape scores alone: a linear classifier.

It knows nothing of light and texture, so it is a second opinion to whatever changes these. Trained
by `recipes/landmark_classifier/train.py`, stored as safetensors beside its model card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expraug.errors import MissingWeightsError
from expraug.expressions import Expression

EMBEDDED = Path(__file__).parents[1] / "weights" / "landmark_classifier"
BLENDSHAPES = 52
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


class LandmarkClassifier(nn.Module):
    """Logits that are linear in MediaPipe's 52 blendshape scores.

    Args:
        expressions: names, in the order of its outputs.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, expressions: Sequence[str]) -> None:
        super().__init__()
        self.expressions = tuple(map(Expression.parse, expressions))
        self.register_buffer("weight", torch.zeros(len(self.expressions), BLENDSHAPES))
        self.register_buffer("bias", torch.zeros(len(self.expressions)))

    def logits(self, blendshapes: Tensor) -> Tensor:
        """Return (B, E) logits, in the order of `expressions`, of (B, 52) scores in [0, 1]."""
        # term by term: a matrix product adds in an order that depends on the size of the batch
        return (blendshapes[:, None] * self.weight).sum(2) + self.bias

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: t.contiguous() for k, t in self.state_dict().items()}, folder / _WEIGHTS)
        description = {
            "weights_sha256": hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest(),
            "config": {"expressions": [str(e) for e in self.expressions]},
        }
        (folder / _CONFIG).write_text(json.dumps(description, indent=2) + "\n")


def load_landmark_classifier(folder: str | Path | None = None) -> LandmarkClassifier:
    """Load a classifier.

    Args:
        folder: written by `LandmarkClassifier.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError: nothing there, or the weights' sha256 is not the recorded one.
    """
    folder = Path(folder or EMBEDDED)
    if not (folder / _CONFIG).is_file():
        raise MissingWeightsError(
            f"no landmark classifier at {folder}: no {_CONFIG} there. Give a folder that "
            f"recipes/landmark_classifier/train.py wrote, or None for the embedded one"
        )
    description = json.loads((folder / _CONFIG).read_text())
    weights = folder / _WEIGHTS
    if hashlib.sha256(weights.read_bytes()).hexdigest() != description["weights_sha256"]:
        raise MissingWeightsError(
            f"{weights} does not have the sha256 that {_CONFIG} records: damaged or incomplete"
        )
    classifier = LandmarkClassifier(**description["config"])
    classifier.load_state_dict(load_file(weights))
    return classifier.eval().requires_grad_(False)
