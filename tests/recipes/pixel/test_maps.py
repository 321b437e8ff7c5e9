"""The closed form of the maps, against other ways to the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.pixel.maps import PixelFit


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_fit_equals_ridge_regression_solved_pixel_by_pixel(seed, ridge):
    """The closed form against numpy's solver on the same normal equations."""
    generator = torch.Generator().manual_seed(seed)
    source, change = torch.rand(2, 12, 4, 4, generator=generator)
    weight = torch.rand(12, generator=generator)
    fit = PixelFit(4)
    for start in range(0, 12, 5):  # in parts: only sums are kept
        part = slice(start, start + 5)
        fit.add(source[part], change[part], weight[part])
    slope, bias = fit.solve(ridge)
    for row, column in ((0, 0), (3, 2)):
        x = np.stack([source[:, row, column].double(), np.ones(12)], axis=1)
        y, w = change[:, row, column].double().numpy(), weight.double().numpy()[:, None]
        expected = np.linalg.solve(x.T @ (w * x) + ridge * np.eye(2), x.T @ (w[:, 0] * y))
        found = [float(slope[row, column]), float(bias[row, column])]
        assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_fit_recovers_a_known_map():
    slope, bias = torch.rand(8, 8) - 0.5, torch.rand(8, 8) * 0.2
    source = torch.rand(400, 8, 8)
    fit = PixelFit(8)
    fit.add(source, slope * source + bias, torch.ones(400))
    found = fit.solve(ridge=1e-6)
    assert torch.allclose(found[0], slope, atol=1e-3)
    assert torch.allclose(found[1], bias, atol=1e-3)


def test_ridge_shrinks_the_change():
    source = torch.rand(20, 8, 8)
    fit = PixelFit(8)
    fit.add(source, 1 - source, torch.ones(20))
    weight, bias = fit.solve(ridge=1e9)
    assert weight.abs().max() < 1e-3
    assert bias.abs().max() < 1e-3


def test_pooling_shares_sums_with_neighbours():
    source, change = torch.zeros(50, 9, 9), torch.zeros(50, 9, 9)
    change[:, 4, 4] = 1.0
    fit = PixelFit(9)
    fit.add(source, change, torch.ones(50))
    alone, shared = fit.solve(1e-6)[1], fit.solve(1e-6, pooling=1.0)[1]
    assert alone[4, 4] > 0.99
    assert alone[4, 5] == 0
    assert 0 < shared[4, 5] < shared[4, 4] < 0.5
