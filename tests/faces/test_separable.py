from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug.faces.align import _sample_grid, sample, supersampling
from expraug.faces.separable import is_upright, sample_upright


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.3, 2.5),
    st.floats(-0.8, 0.8),
    st.sampled_from((1, 3)),
)
def test_as_on_a_grid(
    height: int, width: int, rows: int, columns: int, zoom: float, shift: float, channels: int
) -> None:
    image = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))
    matrix = np.array([[zoom * width, 0, shift * width], [0, zoom * height, -shift * height]])
    per_pixel = supersampling(zoom * max(height / rows, width / columns))
    there = _sample_grid(image[None].double(), torch.from_numpy(matrix[None]), (rows, columns),
                         per_pixel)[0]  # fmt: skip
    here = sample_upright(image.double(), matrix, (rows, columns), per_pixel)
    assert here.shape == (channels, rows, columns)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("turn", "upright"), [(0.0, True), (1e-9, True), (1e-2, False)])
def test_what_is_upright(turn: float, upright: bool) -> None:
    assert is_upright(np.array([[50, -turn, 1.0], [turn, 50, 2.0]])) is upright


def test_each_image_is_sampled_the_same_whatever_the_batch() -> None:
    images = torch.rand(5, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    matrices = torch.tensor([[[50.0, 0, 1], [0, 40, 2]]]).repeat(5, 1, 1).double()
    matrices[[1, 3], 0, 1] = 2.5
    whole = sample(images, matrices, (24, 24), 2)
    for i in range(5):
        assert torch.equal(sample(images[i : i + 1], matrices[i : i + 1], (24, 24), 2)[0], whole[i])
