"""What the tests of synthesizers share."""

from __future__ import annotations

import pytest

from expraug import create_synthesizer
from expraug.synthesizers import TransferSynthesizer


@pytest.fixture(scope="module")
def transfer() -> TransferSynthesizer:
    model = create_synthesizer("transfer")
    assert isinstance(model, TransferSynthesizer)
    return model
