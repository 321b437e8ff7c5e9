"""What exemplars show and nobody else should, on the embedded bank."""

from __future__ import annotations

import pytest
import torch

from expraug import Expression, create_synthesizer
from expraug.synthesizers import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import bank_of, with_bank
from recipes.transfer.left_out import (
    DARK,
    GRIN,
    IRISES,
    throat,
    with_clear_contempt,
    with_dark_throats,
)

CONTEMPT = int(Expression.CONTEMPT)


@pytest.fixture(scope="module")
def staring() -> TransferSynthesizer:
    """The embedded synthesizer, whose contempt looks aside, and grins once."""
    embedded = create_synthesizer("transfer")
    assert isinstance(embedded, TransferSynthesizer)
    bank = bank_of(embedded)
    rows = bank.expression == CONTEMPT
    bank.gaps = bank.gaps.clone()
    bank.gaps[rows.nonzero()[0]] = 2 * GRIN
    gaze = torch.zeros(478, 2)
    gaze[list(IRISES), 0] = 0.02
    axes = embedded.reader.shape_axes
    aside = torch.linalg.lstsq(axes.T, gaze.flatten()[:, None]).solution[:, 0]
    bank.shape = torch.where(rows[:, None], bank.shape + aside, bank.shape)
    return with_bank(embedded, bank)


def looked_aside(model: TransferSynthesizer) -> float:
    """How far contempt moves the irises sideways."""
    shape = model.shape[model.shows == CONTEMPT] + model.shape_correction[CONTEMPT]
    moved = (shape @ model.reader.shape_axes).view(len(shape), -1, 2)
    return float(moved[:, list(IRISES), 0].mean(1).abs().mean())


def test_contempt_is_a_corner_of_the_mouth(staring: TransferSynthesizer) -> None:
    before = {name: value.clone() for name, value in staring.state_dict().items()}
    quiet = with_clear_contempt(staring)
    for name, value in staring.state_dict().items():
        assert torch.equal(value, before[name]), "the model given stays as it was"
    rows, kept = staring.shows == CONTEMPT, quiet.shows == CONTEMPT
    grins = int((staring.gaps[rows].mean(1) > GRIN).sum())
    assert int(kept.sum()) == int(rows.sum()) - grins < int(rows.sum())
    assert looked_aside(quiet) < 0.5 * looked_aside(staring)
    odd = quiet.shape[kept] * (quiet.mirrored_shape < 0)
    assert float(odd.norm(dim=1).min()) > 0, "one-sided it stays"
    assert torch.equal(staring.shape[~rows], quiet.shape[~kept]), "and nothing else changes"
    assert torch.equal(staring.skin[~rows], quiet.skin[~kept])


def test_throats_of_wide_open_mouths_are_dark(staring: TransferSynthesizer) -> None:
    bank = bank_of(staring)
    bank.interior = torch.full_like(bank.interior, 0.1)
    dark = with_dark_throats(bank).interior
    wide = bank.gaps.mean(1) > 0.3
    assert 0 < int(wide.sum()) < len(wide)
    assert float(dark[wide][:, throat() == 1].max()) < DARK + 0.2
    assert torch.equal(dark[bank.gaps.mean(1) < 0.15], bank.interior[bank.gaps.mean(1) < 0.15])
    assert torch.equal(dark[wide][:, throat() == 0], bank.interior[wide][:, throat() == 0])
