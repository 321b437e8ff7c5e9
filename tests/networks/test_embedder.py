"""The small encoder of identity, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expraug.errors import InvalidWeightsError
from expraug.networks.embedder import LENGTH, FaceEmbedder, load_face_embedder
from expraug.networks.fer_classifier import load_fer_classifier


def test_embeddings_survive_saving(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = FaceEmbedder(width=16).eval()
    net.save_pretrained(tmp_path)
    again = load_face_embedder(tmp_path)
    grey = torch.rand(3, 1, 64, 64)
    assert again(grey).shape == (3, LENGTH)
    torch.testing.assert_close(again(grey), net(grey), atol=2e-3, rtol=0)
    with pytest.raises(InvalidWeightsError, match="'face_embedder', not a 'fer_classifier'"):
        load_fer_classifier(tmp_path)
