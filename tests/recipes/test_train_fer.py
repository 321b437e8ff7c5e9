"""The FER recipe: folds, draws, metrics, and a run of it as a user runs it."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug import Expression
from recipes.fer.augment import AUGMENTATIONS, augment, extra_samples
from recipes.fer.conditions import CONDITIONS, Condition, parse_condition
from recipes.fer.data import FaceTable
from recipes.fer.drawing import Draw, Mixing, Samples
from recipes.fer.fold import Cut, LeakError, cut, prove_disjoint, splits
from recipes.fer.metrics import interval, measure, paired
from recipes.fer.runs import select
from recipes.fer.setting import Setting
from recipes.fer.source import LabelledImages
from recipes.fer.synthetics import SyntheticTable
from recipes.fer.table import best_without, collect
from recipes.fer.table import main as print_tables
from recipes.fer.table import table as markdown
from recipes.fer.training import Recipe, predict, train

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")
SMALL = {"model_args": {"channels": (8, 8, 8, 8)}, "steps": 12, "batch": 8, "amp": False}


def table(labels, people=None, seed=0):
    """Faces whose brightness shows their label."""
    generator = torch.Generator().manual_seed(seed)
    count, labels = len(labels), torch.tensor(labels)
    pixels = torch.randint(0, 40, (count, 64, 64), generator=generator, dtype=torch.uint8)
    pixels[:, 20:40] += (labels * 60).to(torch.uint8)[:, None, None]
    return FaceTable(
        pixels=pixels,
        labels=labels,
        people=people or [""] * count,
        digests=torch.randint(0, 256, (count, 16), generator=generator, dtype=torch.uint8),
        points=torch.zeros(count, 5, 2),
        found=torch.ones(count, dtype=torch.bool),
        rows=torch.arange(count),
        images=LabelledImages("", [None] * count, [""] * count, lambda row: pixels[row].numpy()),
    )


def test_people_are_split_and_nobody_is_in_two_parts():
    people = [f"person {i // 3}" for i in range(600)]
    fold = cut(table([i % 2 for i in range(600)], people), None, {}, Cut(least=1))
    parts = [set(t.people) for t in (fold.train, fold.validation, fold.tests["test"])]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert sum(map(len, (fold.train, fold.validation, fold.tests["test"]))) == 600


def test_a_test_image_in_the_training_set_is_dropped_and_counted():
    train_set, test_set = table([0, 1] * 100), table([0, 1] * 10, seed=1)
    test_set.digests[3] = train_set.digests[17]
    fold = cut(train_set, None, {"test": test_set}, Cut(least=1))
    keys = {bytes(k) for k in train_set.digests.numpy()} & set(test_set.image_keys())
    assert len(keys) == 1
    assert not keys & set(fold.train.image_keys())
    with pytest.raises(LeakError, match="1 training faces"):
        prove_disjoint(train_set, [test_set])
    with pytest.raises(ValueError, match="--test"):
        cut(train_set, None, {}, Cut(least=1))


@settings(max_examples=20, deadline=None)
@given(keep=st.floats(0.05, 0.9), seed=st.integers(0, 5))
def test_a_kept_share_is_stratified(keep, seed):
    source = table([0] * 300 + [1] * 100)
    fold = cut(source, table([0, 1], seed=2), {"t": table([0, 1], seed=3)}, Cut(keep=keep, least=1))
    counts = torch.bincount(fold.train.labels)
    assert counts.tolist() == [round(keep * 300), round(keep * 100)]


def test_the_tail_is_cut_and_the_rest_left():
    fold = cut(
        table([0] * 90 + [1] * 80 + [3] * 70 + [6] * 60),
        table([0, 1, 3, 6], seed=1),
        {"t": table([0, 1, 3, 6], seed=2)},
        Cut(tail=20, least=1),
    )
    assert fold.train.counts() == {"neutral": 90, "happy": 80, "surprise": 20, "angry": 20}


def test_a_person_is_in_one_cross_fitting_fold():
    people = [f"person {i // 5}" for i in range(100)]
    part = splits(table([0] * 100, people), 2)
    assert set(part.tolist()) == {0, 1}
    for person in set(people):
        assert len({int(part[i]) for i, p in enumerate(people) if p == person}) == 1


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentations_keep_shape_range_and_follow_the_seed(kind):
    faces = table([0, 1] * 10).pixels
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(augment(kind, faces, 48, 4))
    assert found[0].shape == (20, 1, 48, 48)
    assert found[0].min() >= 0
    assert found[0].max() <= 1
    assert torch.equal(*found)
    other = augment(kind, faces, 48, 4)
    assert torch.equal(other, found[0]) == (kind == "none")


@pytest.mark.parametrize("kind", ["noise", "classical"])
def test_extra_samples_differ_but_stay_alike(kind):
    faces = table([0, 1] * 10).pixels
    made = extra_samples(kind, faces, 0)
    assert made.dtype == torch.uint8
    assert made.shape == faces.shape
    assert not torch.equal(made, faces)
    assert torch.equal(made, extra_samples(kind, faces, 0))


def test_metrics_by_hand():
    labels = torch.tensor([0, 0, 0, 1])
    found = measure(F.one_hot(torch.tensor([0, 0, 1, 1]), 3).float(), labels, tuple(Expression)[:3])
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["recall_neutral"] == pytest.approx(2 / 3)
    assert "recall_sad" not in found  # the test set has none
    assert found["ece"] == pytest.approx(0.25)


def test_paired_differences():
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == (pytest.approx(2), pytest.approx(2.484, abs=0.001))
    mean, half, p = paired([1.1, 2.2, 3.3, 4.1], [1, 2, 3, 4])
    assert mean == pytest.approx(0.175)
    assert half > 0
    assert 0.01 < p < 0.1


def test_conditions_by_name():
    condition, synthesizer = parse_condition("strong+transfer")
    assert (condition.augmentation, condition.extra, synthesizer) == (
        "classical",
        "synthetic",
        "transfer",
    )
    assert parse_condition("extra_noise")[0] == CONDITIONS["extra_noise"]
    condition = CONDITIONS["extra_classical_part_balanced"]
    assert condition == replace(
        CONDITIONS["strong_part_balanced"], name=condition.name, extra="classical"
    )
    with pytest.raises(ValueError, match="there are none, flip_crop"):
        parse_condition("stronger")


def test_the_limits_of_mixing_select_among_what_the_gate_passed():
    made = SyntheticTable(
        pixels=torch.zeros(6, 64, 64, dtype=torch.uint8),
        target=torch.ones(6, dtype=torch.long),
        source=torch.arange(6),
        intensity=torch.tensor([0.6, 0.6, 0.8, 0.8, 1.0, 1.0]),
        variant=torch.tensor([0, 1, 0, 1, 0, 1]),
        probabilities=torch.zeros(6, 2),
    )
    assert select(made, Mixing(), 4).all()
    some = select(made, Mixing(intensities=(0.6, 1.0), variants=1), 4)
    assert some.nonzero().flatten().tolist() == [0, 4]
    assert int(select(made, Mixing(ratio=0.5), 4).sum()) == 2


def _samples(count=200):
    faces = table([i % 2 for i in range(count)])
    return Samples(faces.pixels, F.one_hot(faces.labels, 2).float()), faces


def test_training_learns_and_the_seed_decides():
    real, faces = _samples()
    recipe = Recipe(**SMALL | {"steps": 60, "batch": 16})
    nets = [
        train(recipe, CONDITIONS["flip_crop"], real, None, None, Mixing(), 7, CPU) for _ in range(2)
    ]
    found = [predict(net, faces.pixels, recipe, CPU) for net in nets]
    assert torch.equal(*found)
    assert (found[0].argmax(1) == faces.labels).float().mean() > 0.9


def test_a_run_that_was_broken_off_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    real, faces = _samples()
    recipe, file = Recipe(**SMALL | {"save_every": 5}), tmp_path / "run.safetensors"
    whole = train(recipe, CONDITIONS["flip_crop"], real, None, None, Mixing(), 1, CPU)
    import recipes.fer.training as training

    calls = 0

    def fails(*arguments):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return augment(*arguments)

    monkeypatch.setattr(training, "augment", fails)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, CONDITIONS["flip_crop"], real, None, None, Mixing(), 1, CPU, file)
    assert file.is_file()
    monkeypatch.setattr(training, "augment", augment)
    resumed = train(recipe, CONDITIONS["flip_crop"], real, None, None, Mixing(), 1, CPU, file)
    assert not file.is_file()
    found = [predict(net, faces.pixels, recipe, CPU) for net in (whole, resumed)]
    assert torch.allclose(*found, atol=1e-5)


def test_extra_samples_take_the_share_of_the_draws_that_is_asked_for():
    labels = F.one_hot(torch.tensor([0] * 300 + [1] * 30), 2).float()
    real = Samples(torch.zeros(330, 64, 64, dtype=torch.uint8), labels)
    extra = Samples(torch.zeros(50, 64, 64, dtype=torch.uint8), labels[-50:])
    torch.manual_seed(0)
    condition = Condition("", balance=1.0)
    draw = Draw(
        real, extra, torch.tensor([0] * 10 + [1] * 40), condition, Mixing(0.5, frequent=0.0)
    )
    rows, is_extra = draw(20_000, 1.0)
    classes = torch.where(is_extra, (rows >= 10).long(), (rows >= 300).long())
    assert abs(float(classes.float().mean()) - 0.5) < 0.02
    assert not is_extra[classes == 0].any()  # the frequent class has no need
    assert abs(float(is_extra[classes == 1].float().mean()) - 0.5 * 0.9) < 0.02
    assert Mixing(schedule="falling").at(0) == 2


class Constant(torch.nn.Module):
    """A net that says nothing: its logits are 0."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.weight.expand(len(x), 2)


def _draw(on_top, balance=0.25, schedule="constant"):
    """Three classes of 300, 60 and 30 real faces; extra ones of the last, half of its draws."""
    labels = F.one_hot(torch.tensor([0] * 300 + [1] * 60 + [2] * 30), 3).float()
    real = Samples(torch.zeros(390, 64, 64, dtype=torch.uint8), labels)
    extra = Samples(torch.zeros(50, 64, 64, dtype=torch.uint8), labels[-1:].repeat(50, 1))
    mix = Mixing(0.5, frequent=0.5, schedule=schedule, on_top=on_top)
    return Draw(real, extra, torch.full((50,), 2), Condition("", balance=balance), mix)


def test_extra_samples_on_top_leave_real_faces_as_frequent_among_themselves_as_they_were():
    torch.manual_seed(0)
    found, plain = _draw(True), _draw(False)
    share = plain.classes(1.0)
    assert torch.allclose(share, 0.75 * torch.tensor([300, 60, 30]) / 390 + 0.25 / 3)
    rows, is_extra = found(60_000, 1.0)
    real = rows[~is_extra]
    drawn = torch.stack([real < 300, (real >= 300) & (real < 360), real >= 360]).float().mean(1)
    assert torch.allclose(drawn, share, atol=0.01)
    # as many extra ones as real ones of their class
    assert float(is_extra.float().mean()) == pytest.approx(
        float(share[2] / (1 + share[2])), abs=0.01
    )
    assert float((rows[is_extra]).max()) < 50


def test_the_share_of_each_class_among_the_draws_follows_the_schedule():
    falling = _draw(True, schedule="falling")
    assert torch.allclose(falling.classes(0.0), _draw(False).classes(1.0))
    late, early = falling.classes(0.2), falling.classes(1.0)
    assert early[2] > late[2] > falling.classes(0.0)[2]
    assert float(early.sum()) == pytest.approx(1)
    real, _ = _samples()
    alone = Draw(real, None, None, Condition(""), Mixing(on_top=True))
    assert torch.allclose(alone.classes(1.0), torch.tensor([0.5, 0.5]))


def test_the_balanced_loss_knows_that_extra_samples_on_top_make_their_class_frequent(monkeypatch):
    real, _ = _samples(40)
    extra = Samples(real.pixels[:1].repeat(9, 1, 1), torch.tensor([[0.0, 1.0]]).repeat(9, 1))
    recipe, condition = Recipe(**SMALL | {"steps": 1}), Condition("", loss="balanced")
    import recipes.fer.training as training

    added = []
    monkeypatch.setattr(training, "build", lambda *_: Constant())
    monkeypatch.setattr(
        training.F,
        "cross_entropy",
        lambda logits, *_, **__: (added.append(logits.detach()), logits.sum())[1],
    )
    for on_top in (False, True):
        mix = Mixing(0.75, frequent=0.75, on_top=on_top)
        train(recipe, condition, real, extra, torch.ones(9).long(), mix, 0, CPU)
    shares = [logits[0].exp() for logits in added]
    assert torch.allclose(shares[0], torch.tensor([0.5, 0.5]), atol=1e-4)
    assert torch.allclose(shares[1], torch.tensor([0.2, 0.8]), atol=1e-4)


def test_settings_are_read_with_their_base(tmp_path):
    (tmp_path / "base.yaml").write_text("recipe: {steps: 5, batch: 2}\n")
    (tmp_path / "own.yaml").write_text("base: base.yaml\nrecipe: {batch: 3}\n")
    setting = Setting.read(tmp_path / "own.yaml", ["mixing.share=0.5"])
    assert (setting.name, setting.recipe.steps, setting.recipe.batch) == ("own", 5, 3)
    assert setting.mixing.share == 0.5
    with pytest.raises(ValueError, match="no option 'stepz'"):
        Setting.read(tmp_path / "own.yaml", ["recipe.stepz=1"])


def test_the_recipe_from_folders_to_table(run_recipe, faces, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "cut: {least: 2, validation: 0.3}\n"
        "recipe: {model_args: {channels: [8, 8, 8, 8]}, steps: 6, batch: 4, amp: false}\n"
        "gate: {expression: -1}\nmixing: {share: 0.5, frequent: 0.5}\n"
    )
    # a test set of other images: the samples, mirrored
    from PIL import Image, ImageOps

    for path in faces.rglob("*.*"):
        if path.suffix in (".png", ".jpg", ".jpeg", ".webp"):
            mirrored = tmp_path / "test" / path.parent.name / f"{path.stem}.png"
            mirrored.parent.mkdir(parents=True, exist_ok=True)
            ImageOps.mirror(Image.open(path)).save(mirrored)
    out = tmp_path / "results.csv"
    given = {
        "--config": config,
        "--train": faces,
        "--test": f"mirrored={tmp_path / 'test'}",
        "--seeds": 2,
        "--device": "cpu",
        "--work": tmp_path / "work",
        "--out": out,
    }
    command = [text for pair in given.items() for text in pair]
    command += ["--condition", "flip_crop", "--condition", "flip_crop+pixel", "--no-landmarks"]
    printed = run_recipe("fer.train", *command)
    assert "flip_crop+pixel seed 1" in printed
    assert "synthetic faces can be used" in printed
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 8  # two conditions, two seeds, validation and test
    assert {r["test_set"] for r in rows} == {"validation", "mirrored"}
    assert {r["path"] for r in rows} == {"pipeline"}
    assert all(0 <= float(r["accuracy"]) <= 1 for r in rows)
    assert int(rows[-1]["extra"]) > 0
    assert "seed" not in run_recipe("fer.train", *command)  # all of it is there
    print_tables(out)
    shown = capsys.readouterr().out
    assert "| **flip_crop** | 2 |" in shown
    assert "| flip_crop+pixel | 2 |" in shown


def test_ablations_stand_below_the_conditions_of_their_setting():
    def row(setting, condition, seed, accuracy):
        metrics = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "ece"), accuracy)
        return {
            "setting": setting,
            "condition": condition,
            "seed": str(seed),
            "test_set": "test",
        } | metrics

    rows = [row("a", "strong", seed, 0.5 + seed / 100) for seed in range(3)]
    rows += [row("a", "none", seed, 0.4) for seed in range(3)]
    rows += [row("a", "lucky", 0, 0.9)]  # one seed is no comparison
    rows += [row("a", "strong+pixel", seed, 0.52 + seed / 50) for seed in range(3)]
    rows += [row("a: gate off", "strong+pixel", seed, 0.45) for seed in range(3)]
    (found,) = collect(rows).values()
    control = best_without(found, "accuracy")
    assert control == "strong"
    printed = markdown(found, control, ["accuracy"])
    assert "| strong+pixel | 3 | 54.0 ± 5.0 | +3.0 ± 2.5 |" in printed
    assert "| strong+pixel, gate off | 3 | 45.0 ± 0.0 | -6.0 ± 2.5 |" in printed
