"""The trainer of `unet_cgan` on a configuration that steps in milliseconds."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_trainers import PAIRS, UNPAIRED, coarse, map_batch, told
from tiny_trainers import unet_cgan as trainer
from torch import Tensor

from expraug.faces.composite import face_mask
from expraug.faces.warp import resized
from recipes.training import precision
from recipes.training.loss_networks import LossNetworks
from recipes.training.low import LOW
from recipes.unet_cgan.rendering import render_small
from recipes.unet_cgan.trainer import SMALL, Options, Trainer

OF_MAPS = {"flow", "shortfall", "lightening", "lips", "interior", "edges", "smooth"}


def seen_pairs(of: Trainer) -> list[Tensor]:
    """What the discriminator of pairs will be given, a tensor a call."""
    found: list[Tensor] = []
    of.pairs.register_forward_pre_hook(lambda _, given: found.append(given[0].detach().clone()))
    return found


def test_the_difference_to_the_targets_falls() -> None:
    learner, data = trainer(steps=120), map_batch()
    losses = [told(learner.step(data)) for _ in range(60)]
    for name in ("flow", "lightening", "lips", "l1"):
        assert losses[-1][name] < 0.7 * losses[0][name], name


def test_every_loss_is_told_and_finite() -> None:
    data = map_batch()
    found = told(trainer(margin=2.2).step(data))
    seen = {"l1", "pair", "single", "triplet", "pair discriminator", "single discriminator"}
    assert set(found) == OF_MAPS | seen
    assert torch.tensor(list(found.values())).isfinite().all()
    # nothing moves at first
    usual, wanted = Options(), data.wanted
    assert found["flow"] == pytest.approx(
        usual.flow * 128 * float(wanted.flow.abs().mean()), rel=1e-4
    )
    light = usual.lightening * float(wanted.lightening.abs().mean())
    assert found["lightening"] == pytest.approx(light, rel=1e-4)
    assert found["smooth"] == 0
    # so to the source there is no distance at all, and the loss is what the others lack
    who = coarse(resized(data.source[:PAIRS], SMALL))
    far = (who - who[data.other]).square().sum(1)
    assert far.min() < 2.2 < far.max()
    assert found["triplet"] == pytest.approx(float(F.relu(2.2 - far).mean()), abs=1e-5)


def test_maps_come_first_alone() -> None:
    learner, data = trainer(steps=10, alone=0.3), map_batch()
    names = [set(learner.step(data)) for _ in range(5)]
    assert names[:3] == [OF_MAPS] * 3
    assert all({"l1", "pair", "single"} < some for some in names[3:])


def test_bfloat16_goes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    exact, rough = (told(trainer(amp=amp).step(map_batch())) for amp in (False, True))
    assert exact != rough
    for name, value in exact.items():
        assert rough[name] == pytest.approx(value, abs=0.05), name


def test_real_pairs_come_first_and_then_the_three_kinds_of_fakes() -> None:
    learner, data = trainer(), map_batch()
    given = seen_pairs(learner)
    learner.step(data)
    source = resized(data.source[:PAIRS], SMALL)
    target = torch.lerp(source, render_small(source, data.wanted), face_mask(SMALL))
    assert (target - source).abs().max() > 0.05
    other = source[data.other]
    # a fresh generator changes nothing: what it makes is the source
    kinds = [(source, target), (source, source), (other, source), (other, target)]
    expected = torch.cat([torch.cat(kind, 1) for kind in kinds])
    assert torch.allclose(given[0], expected, atol=1e-5)
    assert torch.allclose(given[1], torch.cat([source, source], 1), atol=1e-5)  # the generator's


def test_without_the_option_nobody_is_paired_with_somebody_else() -> None:
    learner, data = trainer(other_identity=False), map_batch()
    given = seen_pairs(learner)
    for _ in range(3):
        learner.step(data)
    assert [len(faces) for faces in given] == [2 * PAIRS, PAIRS] * 3
    for faces in given:
        own = resized(data.source[:PAIRS], SMALL).repeat(len(faces) // PAIRS, 1, 1, 1)
        assert torch.equal(faces[:, :1], own)


def test_the_identity_encoder_is_called_as_seldom_as_asked() -> None:
    learner, data, calls = trainer(identity_every=3), map_batch(), []

    def counting(faces: Tensor) -> Tensor:
        calls.append(tuple(faces.shape))
        return coarse(faces)

    learner.loss_networks = LossNetworks(counting)
    there = ["triplet" in learner.step(data) for _ in range(7)]
    assert there == [True, False, False, True, False, False, True]
    assert calls == [(PAIRS, 3, SMALL, SMALL)] * 6
    learner.options = Options(amp=False, triplet=0)
    assert all("triplet" not in learner.step(data) for _ in range(3))
    assert len(calls) == 6


def test_single_faces_are_seen_at_a_low_resolution_with_what_was_asked_for() -> None:
    learner, data = trainer(), map_batch()
    given: list[tuple[Tensor, Tensor]] = []
    learner.singles.register_forward_pre_hook(lambda _, seen: given.append(seen))
    learner.step(data)
    count = PAIRS + UNPAIRED
    assert [faces.shape for faces, _ in given] == [(2 * count, 1, LOW, LOW), (count, 1, LOW, LOW)]
    assert torch.equal(given[0][1], torch.cat([data.real_category, data.category]))


def test_a_mouth_that_opens_is_as_dark_as_its_interior_and_teaches_the_lips() -> None:
    data = map_batch()
    face = torch.full((PAIRS, 1, SMALL, SMALL), 0.6)
    gap = torch.sin(torch.linspace(0, torch.pi, 11)) * 0.05
    shut = data.wanted.lips.clone()
    shut[..., 1] = 0.7
    opened = shut.clone()
    opened[:, 0, :, 1] -= gap
    opened[:, 1, :, 1] += gap
    opened.requires_grad_()
    still = replace(
        data.wanted,
        flow=torch.zeros_like(data.wanted.flow),
        lightening=torch.zeros_like(data.wanted.lightening),
        lips=shut,
    )
    dark = replace(still, moved_lips=opened, interior=torch.full((PAIRS, 6, 12), -0.9))
    made = render_small(face, dark)
    middle = made[:, 0, int(0.7 * SMALL), SMALL * 6 // 10]
    assert (middle < 0.2).all()
    assert torch.allclose(made[:, :, : SMALL // 2], face[:, :, : SMALL // 2])
    made.sum().backward()
    assert opened.grad is not None
    # a mouth that opens further is darker
    assert (opened.grad[:, 0, 3:8, 1] > 0).all()
    assert (opened.grad[:, 1, 3:8, 1] < 0).all()
    assert torch.allclose(render_small(face, replace(still, moved_lips=shut)), face)
