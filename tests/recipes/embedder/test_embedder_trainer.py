"""Teaching the small encoder of identity."""

import io

import pytest
import torch
import torch.nn.functional as F
from tiny_trainers import CPU, same, weights
from torch import Tensor

from expraug.networks.embedder import LENGTH, FaceEmbedder
from recipes.embedder.trainer import Trainer


def make(steps: int = 20) -> Trainer:
    torch.manual_seed(0)
    return Trainer(FaceEmbedder(width=8), 3e-3, steps, CPU, amp=False)


def lesson(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(6, 1, 5, 5, generator=generator)
    picture = torch.randn(25, LENGTH, generator=torch.Generator().manual_seed(9))
    wanted = F.normalize((coarse - coarse.mean((2, 3), keepdim=True)).flatten(1) @ picture)
    return F.interpolate(coarse, (64, 64), mode="bilinear"), wanted


def test_what_is_taught_is_learned() -> None:
    learner = make()
    told = [learner.step(*lesson(0))["cosine distance"] for _ in range(15)]
    assert told[-1] < 0.5 * told[0]
    faces, wanted = lesson(0)
    with torch.no_grad():
        found = learner.net(faces)
    assert float((1 - (found * wanted).sum(1)).mean()) < 0.5 * told[0]


def test_a_resumed_run_ends_where_an_unbroken_one_does() -> None:
    whole, first, second = (make(6) for _ in range(3))
    told = [whole.step(*lesson(n)) for n in range(6)]
    for n in range(3):
        first.step(*lesson(n))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.step(*lesson(7))
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.step_count == 3
    assert [second.step(*lesson(n)) for n in range(3, 6)] == told[3:]
    assert same(weights(whole.net), weights(second.net))
    assert told[5] != pytest.approx(told[0])
