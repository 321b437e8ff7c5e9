import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug import Expression, create_synthesizer
from expraug.faces.composite import luminance
from expraug.synthesizers.pixel import PixelFit, PixelSynthesizer


def test_directions():
    pixel = create_synthesizer("pixel")
    assert pixel.supports(Expression.NEUTRAL, Expression.HAPPY)
    assert pixel.supports(Expression.HAPPY, Expression.NEUTRAL)
    assert not pixel.supports(Expression.SAD, Expression.HAPPY)
    assert not pixel.supports(None, Expression.HAPPY)


def test_intensity_interpolates_and_grey_stays_grey():
    pixel = create_synthesizer("pixel")
    grey = torch.rand(2, 1, 128, 128).expand(-1, 3, -1, -1) * 0.5 + 0.25
    target = torch.tensor([int(Expression.HAPPY)] * 2)
    full = pixel(grey, target, torch.ones(2))
    half = pixel(grey, target, torch.full((2,), 0.5))
    inside = (full > 0) & (full < 1)
    assert torch.allclose(half[inside], ((grey + full) / 2)[inside], atol=1e-6)
    assert torch.allclose(full[:, 0], full[:, 2], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_fit_equals_ridge_regression_solved_pixel_by_pixel(seed, ridge):
    """The closed form against numpy's solver on the same normal equations."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.rand(12, 3, 4, 4, generator=generator)
    target = torch.rand(12, 3, 4, 4, generator=generator)
    fit = PixelFit(4)
    for start in range(0, 12, 5):  # in parts: only sums are kept
        fit.add(source[start : start + 5], target[start : start + 5])
    weight, bias = fit.solve(ridge)
    x, y = luminance(source.double())[:, 0], luminance(target.double())[:, 0]
    for row, column in ((0, 0), (3, 2)):
        design = np.stack([x[:, row, column], np.ones(12)], axis=1)
        change = (y - x)[:, row, column].numpy()
        expected = np.linalg.solve(design.T @ design + ridge * np.eye(2), design.T @ change)
        found = [float(weight[row, column]), float(bias[row, column])]
        assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_fit_recovers_a_known_map():
    true_weight, true_bias = torch.rand(8, 8) - 0.5, torch.rand(8, 8) * 0.2
    source = torch.rand(400, 1, 8, 8).expand(-1, 3, -1, -1)
    fit = PixelFit(8)
    fit.add(source, source + true_weight * source + true_bias)
    model = PixelSynthesizer({"sad": ["neutral"]}, image_size=8)
    model.weight[0], model.bias[0] = fit.solve(ridge=1e-6)
    assert torch.allclose(model.weight[0, 0], true_weight, atol=1e-3)
    assert torch.allclose(model.bias[0, 0], true_bias, atol=1e-3)


def test_ridge_shrinks_the_change_not_the_face():
    source = torch.rand(20, 3, 8, 8)
    fit = PixelFit(8)
    fit.add(source, 1 - source)
    weight, bias = fit.solve(ridge=1e9)
    assert weight.abs().max() < 1e-3
    assert bias.abs().max() < 1e-3
