"""What all trainers have: two sides that learn in turns, an average, and a state to go on from."""

import io

import pytest
import torch
from tiny_trainers import TRAINERS, same, step, weights
from torch import Tensor, nn

from recipes.training import precision
from recipes.training.adversarial import AdversarialTrainer, Optimization

kinds = pytest.mark.parametrize("kind", TRAINERS)


def everything(net: nn.Module) -> list[Tensor]:
    """A copy of all that is saved of a net, spectral norm's vectors and running means too."""
    return [v.clone() for v in net.state_dict().values()]


@kinds
def test_a_resumed_run_ends_where_an_unbroken_one_does(kind: str) -> None:
    whole, first, second = (TRAINERS[kind](steps=6) for _ in range(3))
    told = [step(whole, number) for number in range(6)]
    for number in range(3):
        step(first, number)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    for number in range(2):
        step(second, number + 50)  # a run that went another way is overwritten
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.step_count == 3
    assert [step(second, number) for number in range(3, 6)] == told[3:]
    for name in ("made", "average", "discriminators"):
        assert same(everything(getattr(whole, name)), everything(getattr(second, name))), name
    assert not same(weights(first.made), weights(second.made))


@kinds
def test_a_step_of_one_side_leaves_the_other_alone(kind: str) -> None:
    learner = TRAINERS[kind](discriminator_lr=0.0)
    discriminators, made = weights(learner.discriminators), weights(learner.made)
    for number in range(2):
        step(learner, number)
    assert same(discriminators, weights(learner.discriminators))
    assert not same(made, weights(learner.made))
    other = TRAINERS[kind](lr=0.0)
    for number in range(2):
        step(other, number)
    assert same(made, weights(other.made))
    assert not same(discriminators, weights(other.discriminators))


@kinds
def test_gradients_of_one_sides_loss_are_not_carried_over(kind: str) -> None:
    usual, cleared = (TRAINERS[kind]() for _ in range(2))
    for number in range(3):
        step(usual, number)
        step(cleared, number)
        cleared.discriminators.zero_grad()
        cleared.made.zero_grad()
    assert same(weights(usual.discriminators), weights(cleared.discriminators))
    assert same(weights(usual.made), weights(cleared.made))


@kinds
def test_what_is_kept_is_the_moving_average(kind: str) -> None:
    learner = TRAINERS[kind](ema=0.3)
    kept = weights(learner.average)
    for number in range(4):
        step(learner, number)
        decay = min(0.3, (1 + number) / (10 + number))  # short at first
        kept = [
            decay * k + (1 - decay) * w for k, w in zip(kept, weights(learner.made), strict=True)
        ]
    for found, expected in zip(weights(learner.average), kept, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
    assert not any(w.requires_grad for w in learner.average.parameters())


@kinds
def test_both_learning_rates_fall_to_nothing(kind: str) -> None:
    learner = TRAINERS[kind](steps=4, discriminator_lr=1e-3)
    rates = []
    for number in range(4):
        step(learner, number)
        rates.append([o.param_groups[0]["lr"] for o in learner.optimizers])
    assert rates[1] == pytest.approx([1.5e-3, 5e-4])
    assert rates[3] == pytest.approx([0, 0], abs=1e-9)


@kinds
def test_bfloat16_goes_the_same_way(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    exact, rough = (step(TRAINERS[kind](amp=amp), 0) for amp in (False, True))
    assert exact != rough
    for name, value in exact.items():
        assert rough[name] == pytest.approx(value, abs=0.08, rel=0.05), name


def test_the_average_follows_what_is_no_parameter() -> None:
    """Running means move with the weights, counts are taken as they are."""
    net = nn.BatchNorm1d(2)
    options = Optimization(lr=0.1, discriminator_lr=0.1, ema=0.9, amp=False)
    learner = AdversarialTrainer(net, nn.Linear(2, 1), options, 4, torch.device("cpu"))
    learner.update_discriminators(learner.discriminators(torch.rand(4, 2)).mean())
    learner.update_generator(net(torch.rand(8, 2) + 5).square().mean())
    average = learner.average
    assert isinstance(average, nn.BatchNorm1d)
    assert net.running_mean is not None
    assert average.running_mean is not None
    assert net.running_mean.min() > 0.4
    assert torch.allclose(average.running_mean, 0.9 * net.running_mean)  # the first decay is 1/10
    assert average.num_batches_tracked == net.num_batches_tracked == 1
