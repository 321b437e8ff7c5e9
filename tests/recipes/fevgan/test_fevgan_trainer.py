"""Training of `fevgan`, on a net that steps in milliseconds."""

from dataclasses import replace

import pytest
import torch
from tiny_trainers import FRAMES, PAIRS, SIZE, clips, coarse, same, weights
from tiny_trainers import fevgan as trainer
from torch import Tensor

from expraug.synthesizers.fevgan import ENCODERS, apply_motion
from recipes.fevgan.trainer import Options, Trainer
from recipes.training.loss_networks import LossNetworks

LOSSES = {
    "l1",
    "smooth",
    "even",
    "change",
    "steady",
    "frame",
    "video",
    "identity",
    "expression",
    "triplet",
}
DISCRIMINATORS = {"frame discriminator", "video discriminator"}


def bright_below(faces: Tensor) -> Tensor:
    """A stand-in for a FER net: how much brighter a face is below than above."""
    difference = faces[:, :, SIZE // 2 :].mean((1, 2, 3)) - faces[:, :, : SIZE // 2].mean((1, 2, 3))
    return difference[:, None] * torch.tensor([1.0, 2.0, 3.0])


def sighted(**options: float) -> Trainer:
    learner = trainer(**options)
    learner.loss_networks = replace(learner.loss_networks, expression=bright_below)
    # the first change is none: as if it had been trained a little
    torch.nn.init.normal_(learner.net.head.weight, std=0.02)
    return learner


def step(learner: Trainer) -> dict[str, float]:
    torch.manual_seed(5)
    return learner.step(clips())


def test_every_loss_is_told_and_finite() -> None:
    found = step(sighted())
    assert set(found) == LOSSES | DISCRIMINATORS
    assert torch.tensor(list(found.values())).isfinite().all()
    assert all(found[name] > 0 for name in LOSSES - {"frame", "video", "triplet"})


# a schedule goes on whose optimizer has nothing to do
idle = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


@idle
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_loss_can_be_switched_off(name: str) -> None:
    usual, without = step(sighted()), step(sighted(**{name: 0.0}))
    assert not without.get(name)
    assert DISCRIMINATORS - set(without) == DISCRIMINATORS & {f"{name} discriminator"}
    for other, value in usual.items():
        if not other.startswith((name, "frame", "video")):
            assert without[other] == pytest.approx(value, rel=1e-4, abs=1e-6), other


@pytest.mark.parametrize("encoders", ENCODERS)
def test_the_gradient_reaches_all_but_the_frozen_encoder(encoders: str) -> None:
    learner = trainer(encoders=encoders)
    torch.nn.init.normal_(learner.net.head.weight, std=0.02)
    before = weights(learner.net.identity)
    learner.step(clips())
    for name, weight in learner.made.named_parameters():
        if name.startswith("identity."):
            assert weight.grad is None, name
        else:
            assert weight.grad is not None, name
            assert weight.grad.any(), name
    assert same(before, weights(learner.net.identity))
    assert same(before, weights(learner.average.identity))


@pytest.mark.parametrize("encoders", ENCODERS)
def test_clips_come_nearer(encoders: str) -> None:
    learner, data = trainer(steps=60, encoders=encoders, lr=5e-3), clips()
    told = [learner.step(data) for _ in range(40)]
    assert told[-1]["l1"] < 0.6 * told[0]["l1"]


@idle
def test_speed_is_learned_from_the_noise() -> None:
    learner, data = trainer(steps=80, lr=5e-3, frame=0.0, video=0.0), clips()
    for number in range(60):
        learner.step(clips(number % 8))
    late = torch.tensor([[2.0, 2.0, 0.0, 0.0]]).expand(PAIRS, -1)
    with torch.no_grad():
        slow, fast = (learner.net(data.source, data.category, z) for z in (late, -late))
    below = [x[:, FRAMES // 2, :1, SIZE // 2 :].mean() for x in (slow, fast)]
    assert below[1] > below[0] + 0.02


def test_l1_of_the_first_step_by_hand() -> None:
    learner, data = sighted(moving=4.0), clips()
    net = sighted().net  # the same at first
    with torch.no_grad():
        motion = net(data.source, data.category, data.z)
    found = step(learner)
    still = data.source[:, None]
    made = apply_motion(data.source, motion)
    made = (still + (made - still) * learner.mask).clamp(0, 1)
    weight = learner.mask * (1 + 4 * (data.clip - data.source[:, None]).abs())
    away = ((made - data.clip).abs() * weight).sum() / weight.sum()
    assert found["l1"] == pytest.approx(30 * float(away), rel=1e-3)
    change, flow = motion.split([1, 2], 2)
    edges, bends = (sum(x.diff(dim=d).abs().mean() for d in (3, 4)) for x in (change, flow))
    assert found["smooth"] == pytest.approx(0.5 * float(edges), rel=1e-3)
    assert found["even"] == pytest.approx(2 * float(bends), rel=1e-3)
    assert found["change"] == pytest.approx(2 * float(change.abs().mean()), rel=1e-3)


def test_the_large_encoder_sees_full_expressions_as_seldom_as_asked() -> None:
    learner, data, calls = trainer(identity_every=3), clips(), []

    def counting(faces: Tensor) -> Tensor:
        calls.append(tuple(faces.shape))
        return coarse(faces)

    learner.loss_networks = replace(learner.loss_networks, identity=counting)
    assert ["triplet" in learner.step(data) for _ in range(4)] == [True, False, False, True]
    assert calls == [(PAIRS, 3, SIZE, SIZE)] * 4  # sources, and what was made of them
    learner.options = replace(learner.options, triplet=0.0, identity_every=1)
    assert "triplet" not in learner.step(data)
    learner.options, learner.loss_networks = Options(amp=False, identity_every=1), LossNetworks()
    assert "triplet" not in learner.step(data)


def test_the_discriminators_compare_the_same_frames_and_categories() -> None:
    learner, data = trainer(frames=2), clips()
    seen: list[tuple[Tensor, Tensor]] = []
    for discriminator in (learner.frame, learner.video):
        discriminator.register_forward_pre_hook(lambda _, x: seen.append((x[0].detach(), x[1])))
    learner.step(data)
    (faces, asked), (films, categories) = seen[:2]
    assert faces.shape == (2 * 2 * PAIRS, 1, SIZE, SIZE)
    assert torch.equal(*asked.chunk(2))
    assert films.shape == (2 * PAIRS, FRAMES, 1, SIZE, SIZE)
    assert torch.equal(films[:PAIRS], data.clip)
    assert torch.equal(categories, data.category.repeat(2))
    # nothing has changed yet: what is made is the source, in each frame
    assert torch.allclose(films[PAIRS:], data.source[:, None].expand_as(data.clip))
    real = faces[: 2 * PAIRS].view(PAIRS, 2, 1, SIZE, SIZE)
    for clip, some in zip(data.clip, real, strict=True):
        places = [(clip == face).flatten(1).all(1).nonzero().flatten().tolist() for face in some]
        assert all(places), "real frames are frames of the clip"
