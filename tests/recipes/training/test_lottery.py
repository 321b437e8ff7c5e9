"""Draws by weight."""

import pytest
import torch

from recipes.training.lottery import Lottery

CPU = torch.device("cpu")


def test_places_are_drawn_by_weight() -> None:
    torch.manual_seed(0)
    weight = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0])
    drawn = Lottery(weight, CPU)(4000)
    assert set(drawn.tolist()) == {1, 3}
    assert float((drawn == 1).float().mean()) == pytest.approx(0.75, abs=0.03)


def test_nothing_to_draw_is_told() -> None:
    for weight in (torch.zeros(3), torch.zeros(0)):
        with pytest.raises(ValueError, match="no weight is positive"):
            Lottery(weight, CPU)
