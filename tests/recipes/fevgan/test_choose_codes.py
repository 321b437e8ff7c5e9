"""The codes that are kept as variants."""

from pathlib import Path

import pytest
import torch
from torch import nn

from expraug import create_synthesizer
from expraug.networks.onset import RHYTHM
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan import choose_codes
from recipes.fevgan.clips import Codes, held_out, neutral_rows
from recipes.fevgan.learn import CATEGORIES
from recipes.pairs.made import Pairs
from recipes.strength.instrument import Instrument


def test_codes_are_those_of_examples_that_are_trained_on(
    pairs_folder: Path, instrument: Instrument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    names = [str(c) for c in CATEGORIES]
    before = FEVGANSynthesizer(names, 32, 8, (32, 16, 16, 8), RHYTHM + 4, variants=2)
    nn.init.normal_(before.net.head.weight, std=0.05)
    before.save_pretrained(tmp_path / "weights")
    assert not before.codes.any()
    monkeypatch.setattr(choose_codes, "HELD_OUT", 2)
    monkeypatch.setattr(choose_codes, "Instrument", lambda data, work: instrument)
    out = tmp_path / "chosen"
    choose_codes.main(tmp_path / "weights", tmp_path, pairs_folder, count=2, out=out)
    after = create_synthesizer(str(out))
    assert isinstance(after, FEVGANSynthesizer)
    assert after.variants == 2
    pairs = Pairs.load(pairs_folder)
    rows = neutral_rows(pairs, CATEGORIES)
    learned = torch.from_numpy(~held_out(pairs, rows, 2))
    category = after.row[torch.from_numpy(pairs.target[rows])]
    maps = pairs.maps(rows)
    examples = Codes(maps, category, 4, learned)(maps, category)
    for number in category[learned].unique():
        own = examples[learned & (category == number)]
        assert torch.cdist(after.codes[number], own).amin(1).max() < 5e-3  # kept as fp16
