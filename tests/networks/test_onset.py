"""How an expression comes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug.networks.onset import onset

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
