"""How an expression comes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug.networks.onset import onset, rhythm

numbers = st.floats(-4, 4)


@settings(max_examples=50, deadline=None)
@given(numbers, numbers, st.floats(0, 2), st.integers(2, 40))
def test_the_curve_rises_from_nothing_to_all_the_later_the_larger_the_noise(
    late: float, slow: float, more: float, frames: int
) -> None:
    z = torch.tensor([[late, slow], [late + more, slow], [late, slow + more]], dtype=torch.float64)
    usual, later, slower = curves = onset(z, frames)
    assert curves.shape == (3, frames)
    assert (curves[:, 0] == 0).all()
    assert (curves[:, -1] == 1).all()
    assert (curves.diff(dim=1) >= 0).all()
    assert (later <= usual).all()
    assert (slower <= usual).all()


def test_noise_0_is_the_middle_and_each_number_tells() -> None:
    middle = onset(torch.zeros(1, 8), 33)[0]
    drawn = onset(torch.randn(4001, 8, generator=torch.Generator().manual_seed(0)), 33)
    assert torch.allclose(drawn.median(0).values, middle, atol=0.08)
    moved = onset(torch.eye(2), 33)
    assert (moved < middle).any(1).all()
    assert not torch.allclose(moved[0], moved[1], atol=0.01)
    steps = onset(torch.zeros(1, 2), 1000)[0].diff()
    assert steps.max() < 0.01, "it is smooth"


@settings(max_examples=30, deadline=None)
@given(numbers, numbers, st.floats(0.1, 3), st.integers(4, 40))
def test_brows_lead_the_mouth_or_the_mouth_the_brows(
    late: float, slow: float, lead: float, frames: int
) -> None:
    z = torch.tensor([[late, slow, lead], [late, slow, 0], [late, slow, -lead]]).double()
    upper, lower = rhythm(z, frames)
    for half in (upper, lower):
        assert (half[:, 0] == 0).all()
        assert (half[:, -1] == 1).all()
        assert (half.diff(dim=1) >= 0).all()
    assert (upper[0] >= lower[0]).all()
    assert torch.allclose(upper[0], lower[2])
    assert torch.equal(upper[1], lower[1])
    usual = onset(torch.zeros(1, 3), 400)
    brows, mouth = rhythm(torch.tensor([[0.0, 0.0, 1.0]]), 400)
    places = [int((half >= 0.5).float().argmax()) for half in (brows, usual, mouth)]
    assert 5 < places[1] - places[0] < 20
    assert 5 < places[2] - places[1] < 20
