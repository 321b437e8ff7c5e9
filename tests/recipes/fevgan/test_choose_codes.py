"""The codes that are kept as variants, and the factors of an expression."""

from pathlib import Path

import pytest
import torch
from torch import nn

from expraug import Expression, create_synthesizer
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.onset import RHYTHM
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan import choose_codes
from recipes.fevgan.choose_codes import main, probabilities, with_codes
from recipes.fevgan.clips import Codes, held_out, neutral_rows
from recipes.fevgan.train import CATEGORIES
from recipes.pairs.made import Pairs
from recipes.pairs.watching import expression_net


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A tiny one with two codes of four numbers for each expression."""
    torch.manual_seed(0)
    names = [str(c) for c in CATEGORIES]
    made = FEVGANSynthesizer(names, 32, 8, (32, 16, 16, 8), RHYTHM + 4, variants=2)
    nn.init.normal_(made.net.head.weight, std=0.05)
    made.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def load(folder: Path) -> FEVGANSynthesizer:
    made = create_synthesizer(str(folder))
    assert isinstance(made, FEVGANSynthesizer)
    return made


def test_codes_are_those_of_examples_that_are_trained_on(
    weights: Path,
    pairs_folder: Path,
    face_sets: Path,
    work: Path,
    classifier_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choose_codes, "TRIED", 3)
    monkeypatch.setattr(choose_codes, "FACES", 2)
    monkeypatch.setattr(choose_codes, "HELD_OUT", 2)
    out = tmp_path / "chosen"
    nets = [classifier_folder]
    main(weights, pairs_folder, face_sets, nets, ["fear=1.25"], out=out, real_work=work)
    before, after = load(weights), load(out)
    assert not before.codes.any()
    factor = dict(zip(after.expressions, after.config["motion"], strict=True))
    assert factor.pop(Expression.FEAR) == 1.25
    assert set(factor.values()) == set(after.config["light"]) == {1.0}
    pairs = Pairs.load(pairs_folder)
    rows = neutral_rows(pairs, CATEGORIES)
    learned = torch.from_numpy(~held_out(pairs, rows, 2))
    category = after.row[torch.from_numpy(pairs.target[rows])]
    maps = pairs.maps(rows)
    examples = Codes(maps, category, 4, learned)(maps, category)
    for number in category[learned].unique():
        own = examples[learned & (category == number)]
        assert torch.cdist(after.codes[number], own).amin(1).max() < 5e-3  # kept as fp16


def test_factors_alone_can_be_changed(weights: Path) -> None:
    main(weights, light=["happy=0.5", "angry=2"])
    after = load(weights)
    light = dict(zip(after.expressions, after.config["light"], strict=True))
    assert (light[Expression.HAPPY], light[Expression.ANGRY], light[Expression.SAD]) == (0.5, 2, 1)
    with pytest.raises(ValueError, match="neutral"):
        main(weights, light=["neutral=2"])


def test_nets_tell_codes_apart(weights: Path, classifier_folder: Path) -> None:
    torch.manual_seed(1)
    codes = torch.randn(len(CATEGORIES), 3, 4) * 2
    model = with_codes(load(weights), codes)
    assert model.variants == 3
    net = expression_net(load_fer_classifier(classifier_folder), CATEGORIES)
    seen = probabilities(model, torch.rand(2, 3, 64, 64), Expression.HAPPY, [net])
    assert seen.shape == (3,)
    assert ((seen > 0) & (seen < 1)).all()
    assert len(seen.unique()) == 3
