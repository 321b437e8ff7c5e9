"""What loss networks say of faces that are made."""

import pytest
import torch
import torch.nn.functional as F

from expraug import Expression
from expraug.networks.fer_classifier import FERNet, see
from recipes.pairs import watching
from recipes.pairs.data import vary_alike
from recipes.pairs.watching import expression_net

CATEGORIES = tuple(Expression)


def test_logits_of_expressions_that_the_net_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    classifier = FERNet(["happy", "neutral"], width=8).eval()
    faces = torch.rand(3, 1, 96, 96, requires_grad=True)
    found = expression_net(classifier, CATEGORIES)(faces)
    assert found.shape == (3, 8)
    assert found.isfinite().any(0).tolist() == [True, True, *[False] * 6]
    assert (found[:, 2:] == -torch.inf).all()
    F.cross_entropy(found, torch.tensor([0, 1, 0])).backward()
    assert faces.grad is not None
    assert faces.grad.isfinite().all()
    assert faces.grad.flatten(1).any(1).all()
    monkeypatch.setattr(watching, "vary", see)
    plain = expression_net(classifier, CATEGORIES)(faces)
    small = F.interpolate(faces, (64, 64), mode="bilinear", antialias=True)
    assert torch.allclose(plain[:, :2], classifier(see(small)).flip(1), atol=1e-5)


def test_faces_a_batch_apart_vary_alike() -> None:
    torch.manual_seed(0)
    faces = torch.rand(1, 1, 32, 32).expand(8, -1, -1, -1)
    one, two = vary_alike(faces, 4).split(4)
    assert torch.equal(one, two)
    assert (one[1:] != one[0]).flatten(1).any(1).all(), "each its own"
    turned = torch.cat([vary_alike(faces, 8) for _ in range(4)])
    still = torch.cat([vary_alike(faces, 8, mirror=False) for _ in range(4)])

    def mirrored(some: torch.Tensor) -> torch.Tensor:
        alike = [(some * f).mean((1, 2, 3)) for f in (faces[:1], faces[:1].flip(3))]
        return alike[1] > alike[0]

    assert mirrored(turned).any()
    assert not mirrored(still).any()
