"""Landmarks of aligned faces, for callers that know nothing but the faces."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expraug.faces.detect import DetectedFace
from expraug.faces.landmarks import LandmarkDetector

_REMEMBERED = 2048  # faces whose landmarks are kept, 4 kB each: other targets are often next


class LandmarkFinder:
    """Finds landmarks in aligned faces, and remembers them for a while."""

    def __init__(self) -> None:
        self._detector = LandmarkDetector("crop")
        self._recent: dict[bytes, DetectedFace | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_recent": {}}

    def __call__(self, faces: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return which faces landmarks were found in, and these as `forward` takes them.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.

        Returns:
            (N,) long, indices of the N faces, and the keyword arguments for them.
        """
        pixels = (faces.detach() * 255).round().clamp(0, 255).to(torch.uint8)
        found = [self._find(image) for image in pixels.permute(0, 2, 3, 1).cpu().numpy()]
        known = [i for i, face in enumerate(found) if face is not None]
        detected = [face for face in found if face is not None]
        named = {
            "landmarks": [(np.asarray(f.mesh) + 0.5) / faces.shape[-1] for f in detected],
            "blendshapes": [np.asarray(f.blendshapes) for f in detected],
            "pose": [np.asarray(f.pose) for f in detected],
        }
        return torch.tensor(known, dtype=torch.long, device=faces.device), {
            name: torch.from_numpy(np.stack(arrays)).to(faces)
            for name, arrays in named.items()
            if arrays
        }

    def _find(self, image: np.ndarray) -> DetectedFace | None:
        """Detect the face in one (S, S, 3) uint8 image, or recall where it was."""
        pixels = np.ascontiguousarray(image)
        digest = hashlib.blake2b(pixels.data, digest_size=16).digest()
        if digest not in self._recent:
            if len(self._recent) >= _REMEMBERED:
                del self._recent[next(iter(self._recent))]
            self._recent[digest] = self._detector([pixels])[0]
        return self._recent[digest]
