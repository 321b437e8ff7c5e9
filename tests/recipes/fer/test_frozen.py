"""Fits of the last layer: the optimum, the weights of what is drawn, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from recipes.fer import frozen
from recipes.fer.conditions import CONDITIONS, NONE
from recipes.fer.fold_tensors import read_fold
from recipes.fer.folds import SETTINGS
from recipes.fer.frozen import Fits, features, fit, weighted
from recipes.fer.plan import LITE0
from recipes.fer.results import read_results

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fold(packed):
    return read_fold(SETTINGS["ferplus"], packed.folder, [packed.folder], CPU)


def test_a_fit_is_at_its_optimum():
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.eye(3)[torch.arange(60) % 3]
    weight = torch.full((60,), 1 / 60)
    found = fit(x, targets, weight, 1e-2, torch.zeros(5, 3)).requires_grad_()
    wrong = torch.nn.functional.cross_entropy(x @ found, targets, reduction="none")
    value = (wrong * weight).sum() + 1e-2 * found.square().sum()
    (slope,) = torch.autograd.grad(value, found)
    assert slope.abs().max() < 1e-3
    # a sample of twice the weight is a sample that is there twice
    heavy = weight.clone()
    heavy[0] *= 2
    twice = (
        torch.cat([x, x[:1]]),
        torch.cat([targets, targets[:1]]),
        torch.cat([weight, weight[:1]]),
    )
    start = torch.zeros(5, 3)
    assert torch.allclose(fit(x, targets, heavy, 1e-2, start), fit(*twice, 1e-2, start), atol=1e-2)


def test_extra_samples_weigh_their_share_and_are_even(fold):
    samples = fold.samples
    for name in ("transfer 12/64", "more draws 12/64", "own label 12/64"):
        rows, weight, targets = weighted(samples, CONDITIONS[name], 0.5, 0)
        count = len(samples.real)
        plain, _, _ = weighted(samples, NONE, 0.5, 0)
        assert torch.equal(rows[:count], plain), "paired: the same real faces"
        assert weight.sum() == pytest.approx(1.0, abs=1e-5)
        assert float(weight[count:].sum() / weight[:count].sum()) == pytest.approx(
            12 / 64, abs=1e-4
        )
        of_class = torch.zeros(8).index_add_(0, samples.labels[rows[count:]], weight[count:])
        drawn = of_class[of_class > 0]
        assert torch.allclose(drawn, drawn[:1].expand_as(drawn), atol=1e-5)
        assert torch.equal(targets.argmax(1), samples.labels[rows])
    other, _, _ = weighted(samples, NONE, 0.5, 1)
    assert not torch.equal(other, plain)
    half = weighted(samples, replace(CONDITIONS["transfer 12/64"], soft=0.4), 0.5, 0)[2]
    assert half[:count].max(1).values.eq(1).all()
    assert half[count:].max(1).values.le(0.6001).any()


def test_what_is_seen_is_kept_and_the_table_goes_on(packed, fold, tmp_path, monkeypatch):
    weights = tmp_path / "lite0.safetensors"
    save_file(
        {k: v.contiguous() for k, v in timm.create_model(LITE0).state_dict().items()}, weights
    )
    monkeypatch.setattr(frozen, "COMPONENTS", 8)
    out, kept = tmp_path / "t.csv", tmp_path / "seen.npz"
    frozen.main(packed.folder, packed.folder, out, kept, weights, ["ferplus"], 2)
    rows = read_results(out)
    assert {r["condition"] for r in rows} >= {"none", "even draws", "transfer 6/64"}
    # no source is neutral
    assert "transfer 6/64, neutral" not in {r["condition"] for r in rows}
    assert {r["seed"] for r in rows} == {"0", "1"}
    first = kept.read_bytes()
    frozen.main(packed.folder, packed.folder, out, kept, weights, ["ferplus"], 3)
    assert len(read_results(out)) == len(rows) * 3 // 2
    assert kept.read_bytes() == first
    seen = features(fold.samples.pixels[:6].flip(0), None, kept)
    with pytest.raises(ValueError, match="lacks 1 faces"):
        features(255 - fold.samples.pixels[:1], None, kept)
    with np.load(kept) as saved:
        assert seen.shape == (6, saved["features"].shape[1])
    again = features(fold.samples.pixels[:6], None, kept)
    assert torch.equal(again, seen.flip(0))
    assert not torch.equal(again[0], again[5])
    fits = Fits(fold, {"": features(fold.samples.pixels, None, kept)})
    assert fits.seen[""].shape == (len(fold.samples.pixels), 9)
