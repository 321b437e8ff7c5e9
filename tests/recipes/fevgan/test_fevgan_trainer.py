"""Training of `fevgan`, on a net that steps in milliseconds."""

import pytest
import torch
from tiny_trainers import FRAMES, PAIRS, SIZE, clips, same, told, weights
from tiny_trainers import fevgan as trainer
from torch import Tensor, nn

from expraug.faces.composite import face_mask
from expraug.faces.synthesized import canonical_part
from expraug.faces.warp import pixel_grid, sample
from expraug.synthesizers.fevgan.net import ENCODERS
from recipes.fevgan.trainer import Trainer
from recipes.training.loss_networks import LossNetworks

LIKENESS = {"flow", "shortfall", "lightening", "lips", "interior", "steady"}
LOSSES = LIKENESS | {"frame", "video", "identity", "expression"}
DISCRIMINATORS = {"frame discriminator", "video discriminator"}


def bright_below(faces: Tensor) -> Tensor:
    """A stand-in for a FER net: how much brighter a face is below than above."""
    half = faces.shape[-1] // 2
    difference = faces[:, :, half:].mean((1, 2, 3)) - faces[:, :, :half].mean((1, 2, 3))
    return difference[:, None] * torch.tensor([1.0, 2.0, 3.0])


def sighted(**options: float) -> Trainer:
    """One that has been trained a little: the first change is none."""
    learner = trainer(**options)
    learner.loss_networks = [LossNetworks(expression=bright_below)]
    net = learner.net
    for layer in (net.head, net.lips[-1], net.interior[-1]):
        nn.init.normal_(layer.weight, std=0.02)
    return learner


def step(learner: Trainer) -> dict[str, float]:
    torch.manual_seed(5)
    return told(learner.step(clips()))


def test_every_loss_is_told_and_finite() -> None:
    found = step(sighted())
    assert set(found) == LOSSES | DISCRIMINATORS
    assert torch.tensor(list(found.values())).isfinite().all()
    assert all(found[name] > 0 for name in LOSSES - {"frame", "video"})


# a schedule goes on whose optimizer has nothing to do
idle = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


@idle
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_loss_can_be_switched_off(name: str) -> None:
    usual, without = step(sighted()), step(sighted(**{name: 0.0}))
    assert not without.get(name)
    assert DISCRIMINATORS - set(without) == DISCRIMINATORS & {f"{name} discriminator"}
    for other in LIKENESS - {name}:
        assert without[other] == pytest.approx(usual[other], rel=1e-4, abs=1e-6), other


@pytest.mark.parametrize("encoders", ENCODERS)
def test_the_gradient_reaches_all_but_the_frozen_encoder(encoders: str) -> None:
    learner = trainer(encoders=encoders)
    net = learner.net
    for layer in (net.head, net.lips[-1], net.interior[-1]):
        nn.init.normal_(layer.weight, std=0.02)
    before = weights(learner.net.identity) + weights(learner.net.mouth)
    learner.step(clips())
    for name, weight in learner.made.named_parameters():
        if name.startswith(("identity.", "mouth.")):
            assert weight.grad is None, name
        elif name != "lips.2.bias":  # the same in all frames
            assert weight.grad is not None, name
            assert weight.grad.any(), name
    for net in (learner.net, learner.average):
        assert same(before, weights(net.identity) + weights(net.mouth))


@pytest.mark.parametrize("encoders", ENCODERS)
def test_clips_come_nearer(encoders: str) -> None:
    learner, data = trainer(steps=80, encoders=encoders, lr=5e-3), clips()
    losses = [told(learner.step(data)) for _ in range(25)]
    for name in ("flow", "lightening", "lips"):
        assert losses[-1][name] < 0.6 * losses[0][name], name


@idle
def test_speed_is_learned_from_the_noise() -> None:
    learner, data = trainer(steps=80, lr=5e-3, frame=0.0, video=0.0), clips()
    for number in range(60):
        learner.step(clips(number % 8))
    late = torch.tensor([[2.0, 2.0, 0.0, 0.0]]).expand(PAIRS, -1)
    middle = torch.full((PAIRS, 1), FRAMES // 2)
    with torch.no_grad():
        slow, fast = (learner.net(data.source, data.category, z, middle) for z in (late, -late))
    down = [canonical_part(maps.flow)[:, 1].mean() for maps in (slow, fast)]
    assert down[1] > down[0] + 0.005


def test_likeness_of_the_first_step_by_hand() -> None:
    learner, data = sighted(), clips()
    net = sighted().net  # the same at first
    with torch.no_grad():
        maps = net(data.source, data.category, data.z, data.shown)
    found = step(learner)
    flow = canonical_part(maps.flow).unflatten(0, (PAIRS, 4))
    weight = 0.3 + 0.7 * face_mask(SIZE)
    assert found["flow"] == pytest.approx(
        float((4 * 64 * (flow - data.flow).abs() * weight).mean()), rel=1e-4
    )
    lighter = maps.lightening.unflatten(0, (PAIRS, 4))
    away = ((lighter - data.lightening).abs() * learner.moving).mean()
    assert found["lightening"] == pytest.approx(120 * float(away), rel=1e-4)
    parted = (maps.moved_lips - maps.lips).unflatten(0, (PAIRS, 4))
    wanted = data.moved_lips - data.lips[:, None]
    assert found["lips"] == pytest.approx(
        1.5 * 64 * float((parted - wanted).abs().mean()), rel=1e-4
    )


def test_the_nets_see_faces_that_moved() -> None:
    learner, data = trainer(), clips()
    seen: list[tuple[Tensor, Tensor]] = []
    for discriminator in (learner.frame, learner.video):
        discriminator.register_forward_pre_hook(lambda _, x: seen.append((x[0].detach(), x[1])))
    learner.step(data)
    (faces, asked), (films, categories) = seen[:2]
    assert faces.shape == (2 * PAIRS, 1, 48, 48)
    assert torch.equal(*asked.chunk(2))
    assert torch.equal(categories, data.category.repeat(2))
    examples, made = films.chunk(2)
    # nothing has changed yet: what is made is the source, in each frame
    assert torch.allclose(made, data.source[:, None].expand_as(made), atol=1e-5)
    flow = data.flow[:, -1]
    last = sample(data.source, pixel_grid(SIZE, data.source) + 2 * flow)
    lit = last * torch.exp(data.lightening[:, -1] * learner.moving)
    assert torch.allclose(examples[:, -1], lit.clamp(0, 1), atol=1e-5)


def test_nets_take_turns() -> None:
    learner, calls = trainer(), []

    def counting(number: int) -> LossNetworks:
        def see(faces: Tensor) -> Tensor:
            calls.append(number)
            return bright_below(faces)

        return LossNetworks(expression=see)

    learner.loss_networks = [counting(0), counting(1)]
    for _ in range(4):
        assert "expression" in learner.step(clips())
    assert calls == [0, 1, 0, 1]
