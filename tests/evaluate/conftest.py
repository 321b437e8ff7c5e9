"""One evaluation of `pixel` on the bundled faces, shared by the tests that read it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.evaluate import Evaluation, evaluate


class CoarsePicture:
    """A stand-in for an identity encoder whose weights need no download: a coarse picture."""

    name = "coarse-picture"
    threshold = 0.9

    def __call__(self, faces: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(faces, 8).flatten(1)
        return F.normalize(coarse - coarse.mean(dim=1, keepdim=True))


@pytest.fixture(scope="session")
def encoder() -> CoarsePicture:
    return CoarsePicture()


@pytest.fixture(scope="session")
def evaluation(faces: Path, encoder: CoarsePicture) -> Evaluation:
    torch.set_num_threads(1)
    return evaluate("pixel", faces, identity=encoder)
