"""The nets that classifier what is made."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.training.loss_networks import LossNetworks


def knows_two(faces: Tensor) -> Tensor:
    logits = faces.mean((1, 2, 3))[:, None] * torch.arange(3.0)
    return logits + torch.tensor([0.0, 0.0, -torch.inf])


def test_what_the_net_does_not_know_counts_for_nothing() -> None:
    faces, category = torch.rand(5, 1, 8, 8, requires_grad=True), torch.tensor([0, 2, 1, 2, 1])
    loss = LossNetworks(expression=knows_two).cross_entropy(faces, category)
    assert loss is not None
    known = category < 2
    wanted = F.cross_entropy(knows_two(faces)[known], category[known])
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-6)
    loss.backward()
    assert faces.grad is not None
    assert torch.equal(faces.grad.abs().sum((1, 2, 3)) > 0, known)


def test_there_may_be_nothing_to_say() -> None:
    faces, unknown = torch.rand(2, 1, 8, 8), torch.tensor([2, 2])
    assert LossNetworks(expression=knows_two).cross_entropy(faces, unknown) == 0
    assert LossNetworks().cross_entropy(faces, torch.tensor([0, 1])) is None
