"""bfloat16 is used where it is wanted and the device has it."""

from __future__ import annotations

import pytest
import torch

from recipes.training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("wanted", "there"), [(True, True), (True, False), (False, True)])
def test_it_takes_both(wanted: bool, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: there)
    with precision.bfloat16(CPU, wanted):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype is torch.bfloat16) == (wanted and there)


def test_a_card_has_it() -> None:
    assert precision.has_bfloat16(torch.device("cuda"))
