"""How clearly synthetic faces show an expression, on the sample faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
from transfer_faces import read

from expraug import Expression
from expraug.networks.fer_classifier import load_fer_classifier
from recipes.ceiling import certainty, without_outside


def test_what_synthesis_may_change_stays_sharp(neutral_images: list[np.ndarray]) -> None:
    faces = read(neutral_images[:2])[0]
    blurred = without_outside(faces)
    assert torch.allclose(blurred[..., 64, 50:78], faces[..., 64, 50:78], atol=1e-3)
    rough = faces.diff(dim=3).abs(), blurred.diff(dim=3).abs()
    assert rough[1][..., :12, :].mean() < 0.7 * rough[0][..., :12, :].mean(), "hair is blurred"


def test_smiles_look_happy_without_what_is_around_the_face(
    neutral_images: list[np.ndarray], happy_images: list[np.ndarray]
) -> None:
    nets = [load_fer_classifier().eval()]
    happy, neutral = (
        certainty(nets, without_outside(read(images[:4])[0]), Expression.HAPPY)
        for images in (happy_images, neutral_images)
    )
    assert happy.shape == (4,)
    assert happy.mean() > 0.6 > 0.2 > neutral.mean()
