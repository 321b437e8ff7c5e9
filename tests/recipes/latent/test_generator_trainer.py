"""Training of the generator and its encoder, on nets that step in milliseconds."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_trainers import SIZE, batch, same, weights
from tiny_trainers import generator as trainer
from torch import Tensor

from expraug.faces.composite import hide_background
from recipes.latent.trainer import Options, growth
from recipes.training.losses import edge_l1

SIDES = [16, 32, 64, 128]
ALWAYS = {"crossed", "reconstructed", "l1", "edges", "discriminator"}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.just(0.0) | st.floats(0.01, 0.33),
    st.floats(0, 1),
    st.integers(1, 100),
)
def test_faces_only_grow_and_end_at_full_size(
    stages: int, growing: float, fading: float, steps: int
) -> None:
    options = Options(growing=growing if growing * (stages - 1) < 0.99 else 0.1, fading=fading)
    sides = SIDES[:stages]
    points = [growth(step / steps, sides, options) for step in range(steps)]
    assert points == sorted(points)
    assert all(side in sides and 0 <= fade <= 1 for side, fade in points)
    assert all(fade == 1 for side, fade in points if side == sides[0] and stages > 1 and growing)
    assert growth(1.0, sides, options) == (sides[-1], 1.0)


@pytest.mark.parametrize("growing", [0.1, 0.15, 0.2, 0.3])
@pytest.mark.parametrize("fading", [0.0, 0.4, 1.0])
def test_each_side_has_its_share_of_the_steps(growing: float, fading: float) -> None:
    options, steps = Options(growing=growing, fading=fading), 10_000
    points = [growth(step / steps, SIDES, options) for step in range(steps)]
    for number, side in enumerate(SIDES):
        share = growing if side != SIDES[-1] else 1 - 3 * growing
        fades = [fade for s, fade in points if s == side]
        assert len(fades) == pytest.approx(share * steps, abs=2)
        faded = sum(fade < 1 for fade in fades)
        assert faded == pytest.approx(fading * len(fades) if number else 0, abs=2)
        if number and fading:  # evenly
            assert fades[: faded - 1] == pytest.approx(
                torch.linspace(0, 1, faded + 1)[: faded - 1].tolist(), abs=5e-3
            )


def test_without_growing_there_is_one_side() -> None:
    options = Options(growing=0)
    assert {growth(step / 50, SIDES, options)[0] for step in range(50)} == {128}


def test_steps_must_be_left_for_the_full_size() -> None:
    with pytest.raises(ValueError, match=r"growing=1 .* leaves none for the last"):
        trainer(growing=1.0)


def test_the_reconstruction_of_a_few_faces_improves() -> None:
    learner, faces = trainer(steps=70, growing=0, fading=0), batch().real
    torch.manual_seed(0)
    told = [learner.step(faces) for _ in range(60)]
    for name in ("l1", "edges"):
        first, last = (sum(t[name] for t in part) for part in (told[:3], told[-3:]))
        assert last < 0.7 * first, name


def test_every_loss_is_told_and_finite() -> None:
    learner = trainer(steps=20, growing=0.5)
    for step in range(12):
        found = learner.step(batch(step).real)
        # the latents of layers that draw what is not there yet cannot be found
        assert set(found) == ALWAYS | ({"latent"} if step >= 10 else set())
        assert torch.tensor(list(found.values())).isfinite().all()


def test_losses_of_the_first_step_by_hand() -> None:
    learner, faces = trainer(growing=0.5), batch().real
    shown = hide_background(faces)
    with torch.no_grad():
        again = learner.generator.synthesis(learner.encoder(shown), 16)
    small = F.avg_pool2d(shown, 2)
    found = learner.step(faces)
    assert found["l1"] == pytest.approx(10 * float((again - small).abs().mean()), rel=1e-5)
    assert found["edges"] == pytest.approx(10 * float(edge_l1(again, small)), rel=1e-4)


def test_what_is_not_there_yet_does_not_learn() -> None:
    learner = trainer(growing=0.5)
    large = (*learner.generator.styled[5:], learner.generator.grey[3])

    def learned() -> list[Tensor]:
        return [w for net in large for w in weights(net)]

    before = learned()
    for step in range(2):
        learner.step(batch(step).real)
    assert same(before, learned())
    learner.step_count = 12  # of 20, the second half of which are at full size
    learner.step(batch().real)
    assert not any(torch.equal(a, b) for a, b in zip(before, learned(), strict=True))


@pytest.mark.parametrize(("share", "crossed"), [(0.0, 2), (0.25, 2), (0.5, 3), (1.0, 6)])
def test_the_discriminator_sees_crossed_codes_reconstructions_and_real_faces(
    share: float, crossed: int
) -> None:
    learner, seen = trainer(steps=10, growing=0.5, fading=1.0, crossed=share), []
    learner.discriminators.register_forward_pre_hook(lambda _, x: seen.append((x[0].shape, x[1])))
    for step in (0, 5, 7):
        learner.step_count = step
        learner.step(batch(step).real)
    steps = zip((0, 5, 7), seen[::2], seen[1::2], strict=True)
    for step, (shown, fade), (made, again) in steps:
        side, expected = (16, 1.0) if step < 5 else (32, (step - 5) / 5)
        assert shown == (crossed + 6 + 6, 1, side, side)
        assert made == (crossed + 6, 1, side, side)
        assert fade == again == pytest.approx(expected)


def test_real_faces_are_as_sharp_as_those_that_are_faded_in() -> None:
    learner, faces = trainer(), torch.rand(3, 1, SIZE, SIZE)
    assert torch.equal(learner._shown(faces, SIZE, 1.0), faces)
    assert torch.allclose(learner._shown(faces, 16, 1.0), F.avg_pool2d(faces, 2), atol=1e-6)
    start, half = (learner._shown(faces, SIZE, fade) for fade in (0.0, 0.5))
    small = F.avg_pool2d(faces, 2)
    enlarged = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(start, enlarged, atol=1e-6)
    assert torch.allclose(half, (enlarged + faces) / 2, atol=1e-6)


def test_crossed_codes_begin_as_one_face_and_end_as_another() -> None:
    learner = trainer()
    layers = learner.generator.layers
    # latents that say whose they are
    latents = torch.arange(40.0)[:, None, None].expand(-1, layers, learner.generator.width)
    torch.manual_seed(0)
    found = torch.cat([learner._cross(latents, 20) for _ in range(100)])
    changes = (found[:, 1:] != found[:, :-1]).any(2)
    assert changes.sum(1).max() == 1
    assert changes.sum() > 0.95 * len(found), "hardly anyone is crossed with themselves"
    counts = changes.sum(0)
    assert counts.min() > 0.7 * counts.float().mean(), "at any layer"


def test_the_expression_of_a_face_is_that_of_its_reconstruction() -> None:
    learner, faces = trainer(growing=0.5), batch().real
    sizes: list[int] = []

    def bright_below(x: Tensor) -> Tensor:
        sizes.append(x.shape[-1])
        difference = x[:, :, SIZE // 2 :].mean((1, 2, 3)) - x[:, :, : SIZE // 2].mean((1, 2, 3))
        return 20 * torch.stack([difference, -difference], 1)

    with torch.no_grad():
        shown = hide_background(faces)
        again = learner.generator.synthesis(learner.encoder(shown), 16).clamp(0, 1)
        wanted, seen = (
            bright_below(F.interpolate(x, (SIZE, SIZE), mode="bilinear")).softmax(1)
            for x in (shown, again)
        )
    divergence = (wanted * (wanted / seen).log()).sum(1).mean()
    learner.expression = bright_below
    found = learner.step(faces)
    assert found["expression"] == pytest.approx(Options().expression * float(divergence), rel=1e-3)
    assert set(sizes) == {SIZE}, "the net sees full size"
    learner.options = Options(amp=False, expression=0)
    calls = len(sizes)
    assert "expression" not in learner.step(faces)
    assert len(sizes) == calls
