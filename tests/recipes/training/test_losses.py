"""Losses: their gradients against finite differences, and what each of them asks for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from recipes.training.losses import (
    discriminator_hinge,
    edge_l1,
    generator_hinge,
    identity_triplet,
    masked_l1,
    shortfall,
    total_variation,
)

seeds = st.integers(0, 2**31)


def away_from_zero(*shape: int, least: float = 0.2) -> Tensor:
    """Values with gradients whose size is at least so much: no kink is near."""
    values = torch.rand(*shape, dtype=torch.float64) + least
    return (values * (torch.rand(shape) < 0.5).to(values).mul(2).sub(1)).requires_grad_()


def units(*shape: int) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64), dim=1).requires_grad_()


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    real, one, two = (away_from_zero(3, 1, 2, 2) for _ in range(3))
    assert torch.autograd.gradcheck(
        # on both sides of the hinge, far from its corner
        lambda r, a, b: discriminator_hinge(r * 2 + 1, [a * 2 - 1, b * 2 - 1]),
        (real, one, two),
    )
    assert torch.autograd.gradcheck(generator_hinge, (one,))
    change = torch.arange(32, dtype=torch.float64).view(2, 1, 4, 4)
    change = (change * 7 % 11 + 0.1 * change).requires_grad_()  # no neighbours are alike
    assert torch.autograd.gradcheck(total_variation, (change,))
    still = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, s: edge_l1(s + c, s), (change, still))
    found = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(1, 4, 4, dtype=torch.float64)
    wanted = (found + away_from_zero(2, 1, 4, 4)).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda f, w: masked_l1(f, w, mask), (found, wanted))


@pytest.mark.parametrize("margin", [0.2, 5.0])  # below some and above all differences
def test_gradient_of_the_triplet_loss(margin: float) -> None:
    torch.manual_seed(1)
    anchor, positive, negative = (units(6, 8) for _ in range(3))
    difference = (anchor - positive).square().sum(1) - (anchor - negative).square().sum(1) + margin
    assert difference.abs().min() > 0.01
    assert (difference > 0).any()
    assert torch.autograd.gradcheck(
        lambda a, p, n: identity_triplet(a, p, n, margin), (anchor, positive, negative)
    )


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.05, 1.0))
def test_the_triplet_asks_for_the_margin_and_no_more(seed: int, margin: float) -> None:
    torch.manual_seed(seed)
    anchor, positive, negative = (units(1, 8).detach() for _ in range(3))
    near = (anchor - positive).square().sum()
    far = (anchor - negative).square().sum()
    loss = identity_triplet(anchor, positive, negative, margin)
    if far > near + margin:
        assert loss == 0
    else:
        assert loss == pytest.approx(float(near + margin - far), abs=1e-12)
    # as it turns towards somebody else, the loss never falls
    steps = [normalize(torch.lerp(positive, negative, s / 8), dim=1) for s in range(9)]
    losses = [float(identity_triplet(s, positive, negative, margin)) for s in steps]
    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(
        max(0, margin - float((positive - negative).square().sum())), abs=1e-12
    )
    assert losses[-1] > margin


def test_a_triplet_loss_is_a_mean_of_faces() -> None:
    torch.manual_seed(2)
    faces = [units(4, 8).detach() for _ in range(3)]
    alone = [identity_triplet(*(f[i : i + 1] for f in faces)) for i in range(4)]
    assert identity_triplet(*faces) == pytest.approx(float(sum(alone)) / 4)


def test_hinges_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert discriminator_hinge(real, [fake]) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    # kinds of fakes weigh alike, however many of each there are
    many = torch.full((7,), -5.0)
    assert discriminator_hinge(real, [fake, many]) == pytest.approx(2.5 / 3 + 0.5)
    assert discriminator_hinge(real + 9, [many]) == 0
    assert generator_hinge(fake) == pytest.approx(2 / 3)


def test_total_variation_by_hand() -> None:
    slope = torch.tensor([[0.0, 1.0, 3.0], [0.5, 1.5, 3.5]])[None, None]
    assert total_variation(slope) == pytest.approx(1.5 + 0.5)
    assert total_variation(torch.full((2, 1, 4, 4), 0.7)) == 0


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_what_the_mask_hides_does_not_count(seed: int) -> None:
    torch.manual_seed(seed)
    found, wanted, noise = (torch.rand(2, 1, 8, 8) for _ in range(3))
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6, 1:7] = 1
    loss = masked_l1(found, wanted, mask)
    assert loss == pytest.approx(float((found - wanted)[:, :, 2:6, 1:7].abs().mean()), rel=1e-5)
    assert torch.equal(masked_l1(torch.where(mask > 0, found, noise), wanted, mask), loss)
    assert masked_l1(found, wanted, mask / 2) == pytest.approx(float(loss), rel=1e-5)


def test_edges_by_hand() -> None:
    step = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])[None, None]
    flat = torch.full((1, 1, 2, 3), 0.4)
    assert edge_l1(step, flat) == pytest.approx(0.5)  # one of two differences across, none down
    assert edge_l1(step + 0.3, step) == pytest.approx(0, abs=1e-6), "light is no edge"
    assert edge_l1(step, 2 * step) == pytest.approx(0.5)
    assert edge_l1(step, step.flip(3)) == pytest.approx(1.0), "an edge in the wrong place counts"


def test_a_shortfall_is_along_what_is_wanted_and_by_parts() -> None:
    wanted = torch.zeros(1, 2, 16, 16)
    wanted[:, 0, :4, :4] = 0.1
    even = torch.ones(1, 16, 16)
    aside = torch.zeros_like(wanted)
    aside[:, 1] = 0.3
    nothing = float(shortfall(torch.zeros_like(wanted), wanted, even))
    assert nothing == pytest.approx(0.1 / 16, rel=1e-2)
    assert float(shortfall(wanted / 2, wanted, even)) == pytest.approx(nothing / 2, rel=1e-5)
    assert float(shortfall(wanted + aside, wanted, even)) == pytest.approx(0, abs=1e-7)
    assert float(shortfall(2 * wanted, wanted, even)) == pytest.approx(nothing, rel=1e-5)
    # elsewhere in the part it is as good
    assert float(shortfall(wanted.flip(2), wanted, even)) == pytest.approx(nothing, rel=1e-5)
