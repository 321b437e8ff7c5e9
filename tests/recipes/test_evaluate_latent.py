"""Whose face it is when the latents of two people are put together."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug import Expression
from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.face_set import FaceSet
from expraug.faces.composite import hide_background
from expraug.networks.fer_classifier import FERNet
from recipes.latent.evaluate import measure_swap

PEOPLE = ["a", "a", "b", "b", "c", "c"]


class CoarsePicture(nn.Module):
    """A stand-in for an identity encoder whose weights need no download."""

    name, threshold = "coarse-picture", 0.5

    def forward(self, faces: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(faces, 8).flatten(1)
        return F.normalize(coarse - coarse.mean(dim=1, keepdim=True))


class Latents:
    """A synthesizer whose latents are the faces themselves."""

    def __init__(self, first: bool) -> None:
        self.first = first

    def invert(self, grey: Tensor) -> Tensor:
        return hide_background(grey)

    def draw(self, latents: Tensor) -> Tensor:
        return latents

    def swap(self, who: Tensor, shown: Tensor) -> Tensor:
        return hide_background(who if self.first else shown)

    def change(self, faces: Tensor, own: Tensor, other: Tensor) -> Tensor:
        return faces + other - own


@pytest.mark.parametrize("first", [True, False])
def test_the_person_is_the_one_whose_latents_decides(first: bool) -> None:
    torch.manual_seed(0)
    coarse = torch.rand(len(PEOPLE), 1, 8, 8)
    pixels = F.interpolate(coarse, (64, 64), mode="bilinear").expand(-1, 3, -1, -1)
    labels = torch.tensor([int(Expression.NEUTRAL), int(Expression.HAPPY)] * 3)
    data = FaceSet("people", (pixels * 255).byte(), labels, PEOPLE, [])
    classifier = FERNet(["neutral", "happy"], width=8).eval()
    found = measure_swap(Latents(first), classifier, CoarsePicture(), data, Bootstrap(PEOPLE))
    nearer = found["nearer to the first person"]
    assert nearer["drawn"].value == first
    assert nearer["own latents, drawn"].value == 1
    own, others = (
        found[f"seen: the {which}'s expression"]["drawn"].value for which in ("first", "second")
    )
    assert own + others == pytest.approx(1)  # there are two, and the second shows the other
