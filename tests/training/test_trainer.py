"""The trainer of `unet_cgan` on a configuration that steps in milliseconds."""

import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.faces.paste import face_mask
from expraug.synthesizers.unet_cgan import UNet
from expraug.training.unet_cgan import LOW, Batch, Options, Trainer, low

PAIRS, UNPAIRED, SIZE, CATEGORIES = 4, 2, 32, 3
CPU = torch.device("cpu")


def coarse(faces: Tensor) -> Tensor:
    """A stand-in for an identity encoder: a coarse picture."""
    picture = F.adaptive_avg_pool2d(faces.mean(1, keepdim=True), 4).flatten(1)
    return F.normalize(picture - picture.mean(1, keepdim=True))


def batch(seed: int = 0) -> Batch:
    """Blurred noise; the targets are brighter below, the more so the higher their category."""
    generator = torch.Generator().manual_seed(seed)
    count = PAIRS + UNPAIRED
    coarse_noise = torch.rand(2 * count, 1, 6, 6, generator=generator)
    faces = F.interpolate(coarse_noise, (SIZE, SIZE), mode="bilinear") * 0.5 + 0.2
    source, real = faces.split(count)
    category = torch.arange(count) % CATEGORIES
    brighter = torch.zeros(PAIRS, 1, SIZE, SIZE)
    brighter[:, :, SIZE // 2 :] = 0.1 * (1 + category[:PAIRS].view(-1, 1, 1, 1))
    return Batch(
        source=source,
        category=category,
        target=source[:PAIRS] + brighter,
        embedding=coarse(source),
        other=torch.tensor([1, 2, 3, 0, 5, 4]),
        real=real,
        real_category=category.flip(0),
        known=torch.ones(len(category), dtype=torch.bool),
    )


def trainer(steps: int = 20, **options: Any) -> Trainer:
    torch.manual_seed(0)
    setting = Options(**{"amp": False, "lr": 3e-3, **options})
    return Trainer(UNet(CATEGORIES, 8), CATEGORIES, setting, steps, coarse, None, CPU)


def weights(net: nn.Module) -> list[Tensor]:
    return [w.detach().clone() for w in net.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def judges(of: Trainer) -> list[Tensor]:
    return [*weights(of.pairs), *weights(of.singles)]


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


def test_a_resumed_run_ends_where_an_unbroken_one_does() -> None:
    whole, first, second = (trainer(steps=6, identity_every=2) for _ in range(3))
    for step in range(6):
        whole.step(batch(step))
    for step in range(3):
        first.step(batch(step))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    for step in range(3):
        second.step(batch(step + 50))  # a run that went another way is overwritten
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.step_count == 3
    for step in range(3, 6):
        second.step(batch(step))
    for name in ("generator", "average", "pairs", "singles"):
        assert same(weights(getattr(whole, name)), weights(getattr(second, name))), name
    assert not same(weights(first.generator), weights(second.generator))


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

    learner.identity = counting
    told = ["triplet" in learner.step(data) for _ in range(7)]
    assert told == [True, False, False, True, False, False, True]
    assert calls == [(PAIRS + UNPAIRED, 3, SIZE, SIZE)] * 3
    learner.options = Options(amp=False, triplet=0)
    assert all("triplet" not in learner.step(data) for _ in range(3))
    assert len(calls) == 3


def test_the_generator_is_not_told_of_expressions_that_the_net_does_not_know() -> None:
    learner, data = trainer(), batch()
    column = torch.tensor([0.0, 0.0, -torch.inf])
    learner.expression = lambda faces: faces.mean((1, 2, 3))[:, None] * torch.arange(3.0) + column
    found = learner.step(data)
    logits = learner.expression(data.source)
    known = data.category < 2
    wanted = Options().expression * F.cross_entropy(logits[known], data.category[known])
    assert found["expression"] == pytest.approx(float(wanted), rel=1e-4)
    data.category[:] = 2  # none of them known
    assert "expression" not in learner.step(data)
    assert all(w.isfinite().all() for w in weights(learner.generator))


def test_the_generators_step_leaves_the_discriminators_alone() -> None:
    learner = trainer(discriminator_lr=0.0)
    before, generator = judges(learner), weights(learner.generator)
    for step in range(3):
        learner.step(batch(step))
    assert same(before, judges(learner))
    assert not same(generator, weights(learner.generator))
    other = trainer(lr=0.0)  # and the other way round
    for step in range(3):
        other.step(batch(step))
    assert same(generator, weights(other.generator))
    assert not same(before, judges(other))


def test_gradients_of_the_generators_loss_are_not_carried_over() -> None:
    usual, cleared = trainer(), trainer()
    for step in range(3):
        usual.step(batch(step))
        cleared.step(batch(step))
        assert any(w.grad is not None and w.grad.any() for w in cleared.pairs.parameters())
        cleared.pairs.zero_grad()
        cleared.singles.zero_grad()
    assert same(judges(usual), judges(cleared))


def test_what_is_kept_is_the_moving_average() -> None:
    learner = trainer(ema=0.5)
    kept = weights(learner.average)
    for step in range(4):
        learner.step(batch(step))
        decay = min(0.5, (1 + step) / (10 + step))  # short at first
        kept = [
            decay * k + (1 - decay) * w
            for k, w in zip(kept, weights(learner.generator), strict=True)
        ]
    for found, expected in zip(weights(learner.average), kept, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_both_learning_rates_fall_to_nothing() -> None:
    learner = trainer(steps=4, discriminator_lr=1e-3)
    rates = []
    for step in range(4):
        learner.step(batch(step))
        rates.append([o.param_groups[0]["lr"] for o in learner.optimizers])
    assert rates[1] == pytest.approx([1.5e-3, 5e-4])
    assert rates[3] == pytest.approx([0, 0], abs=1e-9)


def test_single_faces_are_judged_at_a_low_resolution() -> None:
    learner, data = trainer(), batch()
    given: list[Tensor] = []
    learner.singles.register_forward_pre_hook(lambda _, seen: given.append(seen[0].detach()))
    learner.step(data)
    assert all(faces.shape[1:] == (1, LOW, LOW) for faces in given)
    assert torch.allclose(given[0], low(torch.cat([data.real, data.source])), atol=1e-5)
