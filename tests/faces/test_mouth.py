"""Lips that move."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug.faces.mouth import LOWER_LIP, UPPER_LIP, lips_met


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_lips_do_not_cross(seed):
    generator = torch.Generator().manual_seed(seed)
    before = torch.rand(3, 478, 2, generator=generator)
    after = before + 0.2 * torch.randn(3, 478, 2, generator=generator)
    met = lips_met(after, before)
    gaps = [
        p[:, list(LOWER_LIP[1:-1]), 1] - p[:, list(UPPER_LIP[1:-1]), 1]
        for p in (before, after, met)
    ]
    assert (gaps[2] >= gaps[0].clamp(max=0) - 1e-6).all()
    open_still = gaps[1] >= gaps[0].clamp(max=0)
    assert torch.allclose(gaps[2][open_still], gaps[1][open_still])
    others = np.setdiff1d(np.arange(478), UPPER_LIP[1:-1] + LOWER_LIP[1:-1])
    assert torch.equal(met[:, others], after[:, others])
