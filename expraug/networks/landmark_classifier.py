"""Which expression a face shows by its landmarks alone.

It never sees a pixel: what light, texture or a blot may do to a network that looks at pictures
cannot convince it. `expraug.landmark_gate` and `expraug.evaluate` use it as the second opinion.
Trained by `recipes/landmark_classifier/train.py`, stored as safetensors beside its model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.read import read_face
from expraug.networks.batching import independently
from expraug.networks.face_mesh import BLENDSHAPES, LANDMARKS
from expraug.pretrained import load_own, save_weights

_KIND = "landmark_classifier"
_VERSION = "3"
RIGID = (33, 133, 362, 263, 168, 6, 197, 195)
"""Landmarks that no expression moves much: corners of the eyes, bridge of the nose."""
NO_BOUND = 1e4


class LandmarkClassifier(nn.Module):
    """A small network on 478 landmarks and the 52 blendshape scores that were read off them.

    The landmarks are moved, turned and scaled until what no expression moves lies as in the mean
    face; their principal components and the scores go through one hidden layer.

    Args:
        expressions: names, in the order of its outputs.
        components: principal components of the landmarks.
        width: of the hidden layer.
    """

    mean: Tensor
    basis: Tensor
    centre: Tensor
    spread: Tensor
    direction: Tensor
    start: Tensor
    most: Tensor

    def __init__(self, expressions: Sequence[str], components: int = 120, width: int = 256) -> None:
        super().__init__()
        self.config = {"expressions": list(expressions), "components": components, "width": width}
        self.expressions = tuple(map(Expression.parse, expressions))
        self.name = _KIND
        inputs = components + BLENDSHAPES
        self.register_buffer("mean", torch.zeros(LANDMARKS, 2))
        self.register_buffer("basis", torch.zeros(components, LANDMARKS * 2))
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        # how far a face has gone towards an expression, see `reach`
        self.register_buffer("direction", torch.zeros(len(expressions), components))
        self.register_buffer("start", torch.zeros(len(expressions)))
        self.register_buffer("most", torch.full((len(expressions),), NO_BOUND))
        self.body = nn.Sequential(nn.Dropout(0.2), nn.Linear(inputs, width), nn.GELU())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, len(self.expressions)))

    def inputs(self, landmarks: Tensor, scores: Tensor) -> Tensor:
        """Return what the layers see, (B, components + 52), of about unit variance.

        Args:
            landmarks: (B, 478, 2), (x, y) in any units.
            scores: (B, 52) blendshape scores in [0, 1].
        """
        shape = (upright(landmarks, self.mean) - self.mean).flatten(1) @ self.basis.T
        return (torch.cat([shape, scores], 1) - self.centre) / self.spread

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, E) logits of what `inputs` returns."""
        logits: Tensor = self.head(self.body(inputs))
        return logits

    @torch.inference_mode()
    def logits(self, landmarks: Tensor, scores: Tensor) -> Tensor:
        """Return (B, E) logits, in the order of `expressions`; each face's by itself.

        Args:
            landmarks, scores: as `inputs` takes them.
        """
        parts = [self(self.inputs(*part)) for part in independently(landmarks, scores)]
        return torch.cat(parts)

    @torch.inference_mode()
    def reach(self, landmarks: Tensor, scores: Tensor) -> Tensor:
        """Return how far faces have gone towards each expression, (B, E) float.

        0 is the mean of real neutral faces and 1 that of real faces of the expression, along
        Fisher's linear discriminant between the two. `most`, (E,), is what 97.5 % of real faces of
        the expression stay below; of neutral, which is where all start, both are meaningless and
        `most` is out of reach.

        Args:
            landmarks, scores: as `inputs` takes them.
        """
        count = self.direction.shape[1]
        parts = independently(landmarks, scores)
        seen = torch.cat([self.inputs(*part)[:, :count] for part in parts])
        return (seen[:, None] * self.direction).sum(2) - self.start

    def probabilities(self, faces: Tensor) -> Tensor:
        """Return (B, E) probabilities of aligned faces; of one without landmarks, all alike.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.
        """
        read = read_face(faces)
        found = self.to(faces.device).logits(read.landmarks, read.scores).softmax(1)
        return torch.where(read.there[:, None], found, 1 / len(self.expressions))

    @torch.inference_mode()
    def features(self, faces: Tensor) -> Tensor:
        """Return (B, width) activations of the hidden layer, of faces as `probabilities` takes."""
        read = read_face(faces)
        parts = independently(read.landmarks, read.scores)
        return torch.cat([self.body(self.inputs(*part)) for part in parts])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (floats as fp16) and `config.json` into a folder.

        Raises:
            InvalidWeightsError: a value that is not finite, or too large for fp16.
        """
        save_weights(
            self,
            folder,
            kind=_KIND,
            name=_KIND,
            version=_VERSION,
            config=self.config,
            float32=("mean", "centre", "spread", "direction", "start", "most"),
        )


def upright(landmarks: Tensor, mean: Tensor) -> Tensor:
    """Return landmarks moved, turned and scaled so that rigid ones lie as in a mean face.

    Args:
        landmarks: (B, 478, 2), in any units.
        mean: (478, 2), in the units of the result.
    """
    rigid = list(RIGID)
    points, goal = torch.view_as_complex(landmarks.contiguous()), torch.view_as_complex(mean)
    middle, goal_middle = points[:, rigid].mean(1, keepdim=True), goal[rigid].mean()
    own, wanted = points[:, rigid] - middle, goal[rigid] - goal_middle
    # least squares (Umeyama 1991); in the complex plane one factor turns and scales
    size = own.abs().square().sum(1, keepdim=True).clamp(min=1e-12)
    factor = (own.conj() * wanted).sum(1, keepdim=True) / size
    return torch.view_as_real((points - middle) * factor + goal_middle)


def load_landmark_classifier(folder: str | Path | None = None) -> LandmarkClassifier:
    """Load a classifier.

    Args:
        folder: written by `LandmarkClassifier.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError: nothing there.
        InvalidWeightsError: what is there is damaged, or no landmark classifier.
    """
    classifier, description = load_own(_KIND, LandmarkClassifier, folder)
    classifier.name = f"{description.name}-{description.weights_sha256[:12]}"
    return classifier
