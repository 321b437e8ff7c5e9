"""The trainer of `unet_cgan` on a configuration that steps in milliseconds."""

import pytest
import torch
import torch.nn.functional as F
from tiny_trainers import PAIRS, SIZE, UNPAIRED, batch, coarse
from tiny_trainers import unet_cgan as trainer
from torch import Tensor

from expraug.faces.composite import face_mask
from recipes.training.batch import LOW, low
from recipes.training.loss_networks import LossNetworks
from recipes.unet_cgan.trainer import Options, Trainer


def seen_pairs(of: Trainer) -> list[Tensor]:
    """What the discriminator of pairs will be given, a tensor a call."""
    found: list[Tensor] = []
    of.pairs.register_forward_pre_hook(lambda _, given: found.append(given[0].detach().clone()))
    return found


def test_the_difference_to_the_target_falls() -> None:
    learner, data = trainer(steps=60), batch()
    losses = [learner.step(data)["l1"] for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]


def test_every_loss_is_told_and_finite() -> None:
    found = trainer(margin=2.2).step(batch())
    assert set(found) == {
        *("l1", "smooth", "pair", "single", "triplet", "pair discriminator", "single discriminator")
    }
    assert torch.tensor(list(found.values())).isfinite().all()
    # nothing is changed at first, so the source is compared with the target
    data, mask = batch(), face_mask(SIZE)
    away = ((data.source[:PAIRS] - data.target).abs() * mask).mean() / mask.mean()
    assert found["l1"] == pytest.approx(Options().l1 * float(away), rel=1e-5)
    assert found["smooth"] == 0
    # so to the source there is no distance at all, and the loss is what the others lack
    far = (data.embedding - data.embedding[data.other]).square().sum(1)
    assert far.min() < 2.2 < far.max()
    assert found["triplet"] == pytest.approx(float(F.relu(2.2 - far).mean()), abs=1e-6)


def test_bfloat16_goes_the_same_way() -> None:
    exact, rough = (trainer(amp=amp).step(batch()) for amp in (False, True))
    assert exact != rough
    for name, value in exact.items():
        assert rough[name] == pytest.approx(value, abs=0.05)


def test_real_pairs_come_first_and_then_the_three_kinds_of_fakes() -> None:
    learner, data = trainer(), batch()
    given = seen_pairs(learner)
    learner.step(data)
    source, other = data.source[:PAIRS], data.source[data.other[:PAIRS]]
    # a fresh generator changes nothing: what it makes is the source
    kinds = [(source, data.target), (source, source), (other, source), (other, data.target)]
    expected = torch.cat([torch.cat(kind, 1) for kind in kinds])
    assert torch.allclose(given[0], expected)
    assert torch.allclose(given[1], torch.cat([source, source], 1))  # the generator's turn


def test_without_the_option_nobody_is_paired_with_somebody_else() -> None:
    learner, data = trainer(other_identity=False), batch()
    given = seen_pairs(learner)
    for _ in range(3):
        learner.step(data)
    assert [len(faces) for faces in given] == [2 * PAIRS, PAIRS] * 3
    for faces in given:
        own = data.source[:PAIRS].repeat(len(faces) // PAIRS, 1, 1, 1)
        assert torch.equal(faces[:, :1], own)


def test_the_identity_encoder_is_called_as_seldom_as_asked() -> None:
    learner, data, calls = trainer(identity_every=3), batch(), []

    def counting(faces: Tensor) -> Tensor:
        calls.append(tuple(faces.shape))
        return coarse(faces)

    learner.loss_networks = LossNetworks(counting)
    told = ["triplet" in learner.step(data) for _ in range(7)]
    assert told == [True, False, False, True, False, False, True]
    assert calls == [(PAIRS + UNPAIRED, 3, SIZE, SIZE)] * 3
    learner.options = Options(amp=False, triplet=0)
    assert all("triplet" not in learner.step(data) for _ in range(3))
    assert len(calls) == 3


def test_single_faces_are_judged_at_a_low_resolution() -> None:
    learner, data = trainer(), batch()
    given: list[Tensor] = []
    learner.singles.register_forward_pre_hook(lambda _, seen: given.append(seen[0].detach()))
    learner.step(data)
    assert all(faces.shape[1:] == (1, LOW, LOW) for faces in given)
    assert torch.allclose(given[0], low(torch.cat([data.real, data.source])), atol=1e-5)
