"""The tables: nets trained together, extra samples on top, rows in a CSV, differences printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from recipes.fer import tables
from recipes.fer.augment import NUMBERS, augment, view
from recipes.fer.conditions import CONDITIONS, NONE, REAL, Condition, Phase, on_top
from recipes.fer.fold_tensors import read_fold
from recipes.fer.folds import LFW, LONDON, SETTINGS
from recipes.fer.lite0 import MODEL, convert
from recipes.fer.metrics import measure
from recipes.fer.nets import Net, build
from recipes.fer.plan import HALF, NETS, PLANS
from recipes.fer.print_tables import best_without, collect, gains, interval
from recipes.fer.print_tables import main as print_tables
from recipes.fer.results import COLUMNS, read_results
from recipes.fer.training import Recipe, Run, Samples, _Trainee, predict, train_together

REPOSITORY = Path(__file__).parents[3]
CPU = torch.device("cpu")
SMALL = Net(args={"channels": (8, 8, 8, 8)})
RECIPE = Recipe(net=SMALL, steps=8, batch=8, ema=0.9)


@pytest.fixture
def samples(packed) -> Samples:
    return read_fold(SETTINGS["ferplus"], packed.folder, [packed.folder], CPU).samples


def weights(model: torch.nn.Module) -> torch.Tensor:
    state = model.state_dict()
    return torch.cat([v.flatten() for n, v in state.items() if v.is_floating_point()])


def test_without_strength_a_face_is_seen_as_in_a_test(packed):
    faces = torch.from_numpy(packed.pack.train.pixels[:4])
    numbers = torch.rand(4, NUMBERS)
    seen = augment(faces, numbers, 48, torch.zeros(4))
    assert torch.allclose(seen, view(faces, 48), atol=1e-3)
    altered = augment(faces, numbers, 48, torch.ones(4))
    assert (altered - seen).abs().mean() > 0.05
    assert torch.equal(altered, augment(faces, numbers, 48, torch.ones(4)))
    numbers[:] = 0.5
    numbers[:, 3] = 0.2
    flipped = augment(faces, numbers, 48, torch.ones(4))
    assert torch.allclose(flipped, seen.flip(3), atol=1e-3)
    assert augment(faces, numbers, 96, torch.ones(4)).shape == (4, 1, 96, 96)


def test_a_net_is_the_same_beside_others_and_learns(samples, packed):
    pixels = torch.from_numpy(packed.pack.train.pixels.copy())
    pixels[20:] = pixels[20:].flip(1)  # the second half stand on their heads
    upset = (torch.arange(40) >= 20).long()
    two = Samples(pixels, upset, torch.arange(40), {}, 2, upset)
    narrow = Net(args={"channels": (16, 32, 64, 128)})
    recipe = replace(RECIPE, net=narrow, steps=40, batch=16, lr=4e-3)
    run = Run(recipe, NONE, "", 0)
    (alone,) = train_together([run], two, CPU)
    other = Run(replace(recipe, mixup=0.4, cutmix=True), NONE, "", 1)
    beside, _ = train_together([run, other], two, CPU)
    assert torch.allclose(weights(alone), weights(beside), atol=1e-6)
    found = predict(alone, pixels, 48, flip=True)
    assert (found.argmax(1) == upset).float().mean() > 0.85
    assert torch.allclose(found.sum(1), torch.ones(40), atol=1e-4)
    with pytest.raises(ValueError, match="same steps"):
        train_together([run, Run(RECIPE, NONE, "", 0)], two, CPU)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, False), (0.4, True)])
def test_mixed_faces_have_mixed_labels(samples, mixup, cutmix):
    recipe = replace(RECIPE, mixup=mixup, cutmix=cutmix, smoothing=0.0)
    trainee = _Trainee(Run(recipe, NONE, "", 0), samples, CPU)
    trainee.begin(0, Phase(1.0, 1.0, 0.0), 4)
    x = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 48, 48).contiguous()
    y = torch.eye(8)
    mixed, labels = trainee._mixed(x, y)
    # what a face's pixels are made of is what its label says
    assert torch.allclose(mixed.mean((1, 2, 3)), labels @ torch.arange(8.0), atol=0.5)
    assert torch.allclose(labels.sum(1), torch.ones(8))
    assert not torch.equal(labels, y)


def test_extra_samples_come_on_top_and_are_even_over_the_rare_classes(samples):
    condition = Condition("c", "transfer", on_top(0.5))
    trainee = _Trainee(Run(RECIPE, condition, "transfer", 0), samples, CPU)
    trainee.begin(0, condition.phases[0], 300)
    assert trainee.rows.shape == (300, 12)
    real, extra = trainee.rows[:, :8], trainee.rows[:, 8:]
    assert real.max() < len(samples.real) <= extra.min()
    counts = torch.bincount(samples.labels[extra.flatten()], minlength=8)
    assert counts[[0, 1, 2, 3, 6]].sum() == 0
    assert (counts[[4, 5, 7]] > 350).all()
    plain = _Trainee(Run(RECIPE, NONE, "", 0), samples, CPU)
    plain.begin(0, NONE.phases[0], 300)
    assert torch.equal(plain.rows, real)  # paired: the same real faces, altered alike
    assert torch.equal(plain.numbers, trainee.numbers[:, :8])
    drawn = _Trainee(Run(RECIPE, CONDITIONS["more draws 6/64"], REAL, 0), samples, CPU)
    drawn.begin(0, on_top(0.5)[0], 300)
    counts = torch.bincount(samples.labels[drawn.rows[:, 8:].flatten()], minlength=8)
    assert (counts[[4, 5, 7]] > 350).all()


def test_weightless_extra_samples_with_norms_of_their_own_change_nothing(samples):
    silent = Condition("silent", "transfer", on_top(0.5), weight=0.0, split_norm=True)
    (plain,) = train_together([Run(RECIPE, NONE, "", 0)], samples, CPU)
    (split,) = train_together([Run(RECIPE, silent, "transfer", 0)], samples, CPU)
    kept = {
        n.replace(".real.", "."): v for n, v in split.state_dict().items() if ".extra." not in n
    }
    for name, value in plain.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, kept[name], atol=1e-4), name
    (heard,) = train_together(
        [Run(RECIPE, replace(silent, weight=1.0), "transfer", 0)], samples, CPU
    )
    assert not torch.allclose(weights(split), weights(heard), atol=1e-3)


def test_phases_take_all_the_steps_and_the_last_may_be_real_alone(samples):
    phases = (Phase(0.5, 0.5, 0.5), Phase(0.5, 1.0, 0.0))
    first = Condition("first", "transfer", phases)
    (model,) = train_together([Run(RECIPE, first, "transfer", 0)], samples, CPU)
    (plain,) = train_together([Run(RECIPE, NONE, "", 0)], samples, CPU)
    assert not torch.allclose(weights(model), weights(plain), atol=1e-3)


def test_soft_labels_are_of_extra_samples_alone(samples, monkeypatch):
    condition = Condition("soft", "transfer", on_top(0.5), soft=0.3)
    trainee = _Trainee(Run(replace(RECIPE, smoothing=0.0), condition, "transfer", 0), samples, CPU)
    trainee.begin(0, condition.phases[0], 1)
    asked: list[torch.Tensor] = []
    told = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        "torch.nn.functional.cross_entropy", lambda x, y, **kw: asked.append(y) or told(x, y, **kw)
    )
    rows = trainee.rows[0]
    trainee.step()
    target, source = (torch.eye(8)[of[rows]] for of in (samples.labels, samples.sources))
    assert torch.equal(asked[0][:8], target[:8])
    assert torch.allclose(asked[0][8:], 0.7 * target[8:] + 0.3 * source[8:])
    assert not torch.equal(source[8:], target[8:])


def test_even_draws_are_even_over_the_classes(samples):
    trainee = _Trainee(Run(RECIPE, CONDITIONS["even draws"], "", 0), samples, CPU)
    trainee.begin(0, NONE.phases[0], 400)
    counts = torch.bincount(samples.labels[trainee.rows.flatten()], minlength=8)
    assert (counts > 320).all()


def test_nets_are_tested_on_other_sets_in_the_expressions_that_both_name(packed, tmp_path):
    folder = tmp_path / "tables"
    packed.pack.save(folder)
    packed.pack.save(folder / LFW)
    packed.pack.save(folder / LONDON)
    of_fer = read_fold(SETTINGS["ferplus"], folder, [], CPU)
    assert set(of_fer.tests) >= {"lfw", "london"}
    assert set(of_fer.tests["lfw"][1].tolist()) == {0, 1, 2, 3, 6}
    of_lfw = read_fold(SETTINGS["lfw"], folder, [], CPU)
    assert set(of_lfw.tests) >= {"fer+", "london"}
    assert set(of_lfw.tests["fer+"][1].tolist()) == set(range(5))
    assert of_lfw.samples.classes == 5
    assert len(of_lfw.samples.real) == 20  # five of eight labels, less those that validate
    assert set(of_lfw.samples.labels[of_lfw.samples.pools[REAL]].tolist()) == {2, 3, 4}


def test_plans_name_what_there_is():
    for plan in PLANS.values():
        for setting, net, condition in plan.groups:
            assert setting in SETTINGS
            assert net in NETS
            assert condition in CONDITIONS
        assert len(set(plan.groups)) == len(plan.groups)


def test_pools_hold_what_they_say(samples, packed):
    labels, count = samples.labels, len(samples.real)
    assert count == 32
    assert set(labels[samples.pools[REAL]].tolist()) == {4, 5, 7}
    assert (samples.pools["transfer"] - count).tolist() == list(range(6))
    assert (samples.pools["own"] - count).tolist() == list(range(6, 12))
    # of probabilities 0, 0.09, 0.18 and so on the first two are too low
    assert (samples.pools["transfer, natural"] - count).tolist() == [2, 3, 4, 5]
    # of the sources, rows 8 to 13, only row 8 is neutral, and its face is not natural
    assert len(samples.pools["transfer, neutral"]) == 0
    fer2013 = read_fold(SETTINGS["fer2013"], packed.folder, [packed.folder], CPU)
    kept = fer2013.samples.labels[fer2013.samples.pools["transfer"]]
    assert set(kept.tolist()) == {4, 5}  # contempt is no class of it
    tests = fer2013.tests
    assert len(tests["test"][0]) == 16
    assert len(tests["test without duplicates"][0]) == 15
    assert len(tests["pooled"][0]) == 15 + len(tests["validation"][0])


def test_metrics_of_a_known_case():
    classes = SETTINGS["ferplus"].classes
    labels = torch.arange(8).repeat(2)
    right = torch.eye(8).repeat(2, 1) * 0.9 + 0.0125
    found = measure(right, labels, classes)
    assert found["accuracy"] == found["mean_ap"] == found["recall_fear"] == 1.0
    assert found["ece"] == pytest.approx(0.0875, abs=0.02)
    some = labels < 3  # of another set, which names only three of them
    found = measure(torch.full((6, 8), 0.125), labels[some], classes)
    assert "recall_fear" not in found
    assert found["ece"] == pytest.approx(0.0, abs=1e-6)
    wrong = right.clone()
    wrong[4] = wrong[0]  # one of two frightened faces is taken for neutral
    found = measure(wrong, labels, classes)
    assert found["accuracy"] == pytest.approx(15 / 16)
    assert found["recall_fear"] == 0.5
    assert found["ap_fear"] < 1


def test_rows_are_written_once_and_printed(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(NETS, HALF, SMALL)
    out = tmp_path / "tables.csv"
    wanted = ["none", "more draws 6/64", "own label 6/64", "transfer 6/64"]

    def fill(seeds: int) -> int:
        tables.main(
            packed.folder, out, 5.0, "cpu", None, None, ["ferplus"], wanted, seeds, 0, 4, 12, True
        )
        return len(read_results(out))

    rows = fill(2)
    assert rows == 8 * 2 * 2 + 4 * 2 * 4  # what was tried, then four conditions on four test sets
    assert fill(2) == rows
    assert fill(3) == rows + 4 * 4
    found = collect(read_results(out), "pooled")[("ferplus", "resnet18")]
    assert list(found) == wanted
    assert len(found["none"]) == 3
    capsys.readouterr()
    print_tables(out, "pooled", "transfer 6/64", None, False, tmp_path / "gain.png")
    shown = capsys.readouterr().out
    assert "| transfer 6/64 | 3 |" in shown
    assert "Gains over *own label 6/64*" not in shown
    print_tables(out, "pooled", control="own label 6/64")
    assert "Gains over *own label 6/64*" in capsys.readouterr().out
    assert (tmp_path / "gain.png").stat().st_size > 5000
    tables.main(packed.folder, out, 5.0, "cpu", None, None, ["fer2013_10pct"], ["transfer 6/64"],
                1, 0, 2, 12, True)  # fmt: skip
    assert "there are no such synthetics" in capsys.readouterr().out


@pytest.mark.parametrize(("there", "name"), [(True, "cpu"), (False, "cpu, float32")])
def test_rows_say_what_a_net_was_computed_in(there, name, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "has_bfloat16", lambda device: there)
    kept = tables.Tables(tmp_path, [], tmp_path / "t.csv", CPU, PLANS["core"])
    assert kept._device_name() == name


def test_gains_are_paired_over_the_best_without_synthetics():
    def runs(*accuracies: float) -> dict[int, dict[str, float]]:
        return {seed: {"accuracy": a, "mean_ap": 0.5} for seed, a in enumerate(accuracies)}

    found = {
        "none": runs(0.5, 0.6, 0.7),
        "more draws 6/64": runs(0.6, 0.6, 0.7),
        "own label 6/64": runs(0.8, 0.8, 0.8),
        "transfer 6/64": runs(0.61, 0.62, 0.73),
    }
    assert best_without(found) == "more draws 6/64"
    differences = gains(found, "transfer 6/64", "more draws 6/64", "accuracy")
    assert np.allclose(differences, [0.01, 0.02, 0.03])
    mean, half = interval(differences)
    assert (mean, half) == (pytest.approx(0.02), pytest.approx(0.02484, abs=1e-4))
    with pytest.raises(ValueError, match="no condition without synthetics"):
        best_without({"transfer 6/64": runs(0.5)})


@pytest.mark.parametrize("name", ["tables.csv", "tables_core.csv", "tables_frozen.csv"])
def test_the_rows_that_are_kept_have_every_column_and_five_seeds(name):
    rows = read_results(REPOSITORY / "recipes" / "fer" / name)
    assert set(rows[0]) == set(COLUMNS)
    for (setting, _), runs in collect(rows, "pooled").items():
        assert "none" in runs, setting
        assert all(len(by_seed) >= 5 for by_seed in runs.values())


def test_weights_of_the_package_fit_timm(tmp_path):
    theirs = timm.create_model(MODEL)
    renamed = {f"_{i}": t for i, t in enumerate(theirs.state_dict().values())}
    torch.save(renamed, tmp_path / "lite0.pth")
    convert(tmp_path / "lite0.pth", tmp_path / "lite0.safetensors")
    net = Net(MODEL, {"drop_rate": 0.0}, 112, tmp_path / "lite0.safetensors")
    model = build(net, 7, 0).eval()
    grey = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        first, own = theirs.conv_stem(grey.expand(-1, 3, -1, -1)), model.conv_stem(grey)
    assert torch.allclose(first, own, atol=1e-2)
    assert model(grey).shape == (2, 7)
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold"):
        convert(tmp_path / "other.pth", tmp_path / "x.safetensors")
    with pytest.raises(RuntimeError, match="not weights of this model"):
        build(replace(SMALL, weights=tmp_path / "lite0.safetensors"), 7, 0)
