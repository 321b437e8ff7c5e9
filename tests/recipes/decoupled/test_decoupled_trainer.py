"""Training of `decoupled`, on a net that steps in milliseconds."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_trainers import PAIRS, SIZE, UNPAIRED, batch, coarse, same, weights
from tiny_trainers import decoupled as trainer
from torch import Tensor

from expraug.faces.composite import hide_background
from recipes.decoupled.trainer import Options, Trainer
from recipes.training.loss_networks import LossNetworks
from recipes.training.low import LOW

COUNT = PAIRS + UNPAIRED
LOSSES = {
    *("reconstruction", "pair", "change", "smooth", "feedback", "contrast"),
    *("expression", "adversarial", "identity"),
}


def bright_below(faces: Tensor) -> Tensor:
    """A stand-in for a FER net: how much brighter a face is below than above."""
    difference = faces[:, :, SIZE // 2 :].mean((1, 2, 3)) - faces[:, :, : SIZE // 2].mean((1, 2, 3))
    return difference[:, None] * torch.tensor([1.0, 2.0, 3.0])


def sighted(**options: float) -> Trainer:
    learner = trainer(**options)
    learner.loss_networks = replace(learner.loss_networks, expression=bright_below)
    return learner


def test_every_loss_is_told_and_finite() -> None:
    found = sighted().step(batch())
    assert set(found) == LOSSES | {"discriminator"}
    assert torch.tensor(list(found.values())).isfinite().all()
    assert all(found[name] > 0 for name in LOSSES - {"adversarial"})


# a schedule goes on whose optimizer has nothing to do
idle = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


@idle
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_loss_can_be_switched_off(name: str) -> None:
    usual, without = sighted().step(batch()), sighted(**{name: 0.0}).step(batch())
    assert not without.get(name)
    for other, value in usual.items():
        if other not in (name, "discriminator"):
            assert without[other] == pytest.approx(value, rel=1e-4, abs=1e-6), other
    assert ("discriminator" in without) == (name != "adversarial")


def test_the_gradient_reaches_every_parameter() -> None:
    learner = sighted()
    learner.step(batch())
    for name, weight in learner.made.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name
    assert learner.net.categories.grad is not None
    assert learner.net.categories.grad.any(1).all(), "each category was asked for"
    assert all(w.isfinite().all() for w in weights(learner.made))


def test_faces_pairs_and_targets_come_nearer() -> None:
    learner, data = trainer(steps=50, lr=2e-3), batch()
    told = [learner.step(data) for _ in range(25)]
    for name in ("reconstruction", "pair", "change"):
        assert told[-1][name] < 0.8 * told[0][name], name


def test_a_persons_identity_codes_come_nearer_than_those_of_strangers() -> None:
    found = []
    for weight in (0.0, 10.0):
        learner, data = trainer(steps=60, lr=2e-3, contrast=weight, identity=0.0), batch()
        for _ in range(12):
            learner.step(data)
        with torch.no_grad():
            who, _ = learner.net.encode(torch.cat([data.source, data.target]))
        one, other = F.normalize(who).split(COUNT)
        cosine = one @ other.T
        strangers = cosine.sum() - cosine.trace()
        found.append(float(cosine.trace() / COUNT - strangers / (COUNT * (COUNT - 1))))
    without, with_it = found
    assert with_it > without + 0.05


def test_losses_of_the_first_step_by_hand() -> None:
    learner, data = trainer(), batch()
    net = trainer().net  # the same at first
    with torch.no_grad():
        who, shown = net.encode(torch.cat([data.source, data.target, data.real]))
        one, own = who[:COUNT], shown[:COUNT]
        other, partner = who[COUNT : 2 * COUNT], shown[COUNT : 2 * COUNT]
        again = net.generator.synthesis(net.latents(one, own))
        paired = net.generator.synthesis(net.latents(one, partner))
        changed = net.generator.synthesis(net.latents(one, net.wanted(data.category)))
        made = (data.source + (changed - again) * learner.mask).clamp(0, 1)
    found = learner.step(data)
    drawings = {"reconstruction": (again, data.source), "pair": (paired, data.target)}
    for name, (drawn, real) in drawings.items():
        away = drawn - hide_background(real)
        edges = sum(away.diff(dim=d).abs().mean() for d in (2, 3))
        assert found[name] == pytest.approx(10 * float(away.abs().mean() + edges), rel=1e-4), name
    away = ((made - data.target).abs() * learner.mask).mean() / learner.mask.mean()
    assert found["change"] == pytest.approx(30 * float(away), rel=1e-4)
    alike = (F.normalize(one) @ F.normalize(other).T / 0.1).log_softmax(1).diagonal()
    assert found["contrast"] == pytest.approx(0.1 * -float(alike.mean()), rel=1e-3)


def test_the_identity_encoder_sees_swapped_faces_as_seldom_as_asked() -> None:
    learner, data, calls = trainer(identity_every=3), batch(), []

    def counting(faces: Tensor) -> Tensor:
        calls.append(tuple(faces.shape))
        assert 0 <= faces.min() <= faces.max() <= 1
        assert torch.equal(faces[:, 0], faces[:, 2])
        return coarse(faces)

    learner.loss_networks = replace(learner.loss_networks, identity=counting)
    told = ["identity" in learner.step(data) for _ in range(4)]
    assert told == [True, False, False, True]
    assert calls == [(COUNT, 3, SIZE, SIZE)] * 2
    learner.options = replace(learner.options, identity=0.0, identity_every=1)
    learner.step(data)
    assert len(calls) == 2
    learner.loss_networks = replace(learner.loss_networks, identity=None)
    learner.options = Options(amp=False, identity_every=1)
    assert "identity" not in learner.step(data)


def test_the_discriminator_compares_what_single_faces_show() -> None:
    learner, data = trainer(), batch()
    seen: list[tuple[Tensor, Tensor]] = []
    learner.discriminators.register_forward_pre_hook(
        lambda _, x: seen.append((x[0].detach(), x[1]))
    )
    learner.step(data)
    (shown, categories), (made, asked) = seen
    assert shown.shape == (3 * COUNT, 1, LOW, LOW)
    assert made.shape == (2 * COUNT, 1, LOW, LOW)
    expected = torch.cat([data.real_category, data.category])
    assert torch.equal(asked, expected)
    assert torch.equal(categories, torch.cat([data.real_category, expected]))
    corner = shown[..., 0, 0]
    assert torch.allclose(corner[:COUNT], torch.tensor(0.5)), "real faces without background"
    assert torch.allclose(corner[2 * COUNT :], torch.tensor(0.5)), "changed ones likewise"
    assert torch.allclose(shown[COUNT:], made, atol=1e-6)


@idle
def test_without_adversarial_loss_the_discriminator_stands_still() -> None:
    learner = trainer(adversarial=0.0)
    before = weights(learner.discriminators)
    learner.step(batch())
    assert same(before, weights(learner.discriminators))


@idle
def test_an_autoencoder_of_the_same_nets_learns_to_draw_faces_alone() -> None:
    learner, data, calls = trainer(steps=40, decoupling=False), batch(), []
    spy = lambda faces: calls.append(faces) or coarse(faces)  # noqa: E731
    learner.loss_networks = LossNetworks(spy, spy)
    before = [
        w.detach().clone() for w in (learner.net.categories, *learner.discriminators.parameters())
    ]
    told = [learner.step(data) for _ in range(15)]
    assert all(set(losses) == {"reconstruction"} for losses in told)
    assert told[-1]["reconstruction"] < 0.8 * told[0]["reconstruction"]
    assert not calls
    assert same(before, [learner.net.categories.detach(), *weights(learner.discriminators)])
    # in the first step it is the same loss as ever, of single faces too
    with torch.no_grad():
        faces = torch.cat([data.source, data.real])
        net = trainer().net
        away = net.generator.synthesis(net.latents(*net.encode(faces))) - hide_background(faces)
    edges = sum(away.diff(dim=d).abs().mean() for d in (2, 3))
    assert told[0]["reconstruction"] == pytest.approx(
        10 * float(away.abs().mean() + edges), rel=1e-4
    )
