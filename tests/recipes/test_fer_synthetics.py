"""What the FER recipe trains on is what users get: synthetic faces by way of the pipeline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.cache import image_digest
from expraug.errors import LabelError
from expraug.faces.landmarks import LandmarkDetector
from expraug.gate import ExpressionGate
from recipes.fer.conditions import CONDITIONS
from recipes.fer.data import net_input, read_faces
from recipes.fer.fold import Fold
from recipes.fer.gating import GateOptions, TrainedClassifier, gated_synthetics, pipeline_views
from recipes.fer.requests import Plan, sample_requests
from recipes.fer.results import COLUMNS, append, done, read_results
from recipes.fer.source import open_images
from recipes.fer.synthetics import augmenter_of, make, synthesizer_for, synthetic_images
from recipes.fer.table import main as print_tables
from recipes.fer.training import Recipe, build

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")
CLASSES = (Expression.NEUTRAL, Expression.HAPPY)
RECIPE = Recipe(model_args={"channels": (8, 8, 8, 8)}, steps=6, batch=4, amp=False)


@pytest.fixture
def table(faces, tmp_path):
    """The sample faces as the recipe reads them, as crops without landmarks."""
    return read_faces(str(faces), tmp_path / "work", landmarks=False)


@pytest.fixture
def small_faces(faces, tmp_path):
    """Four people, grey and of 48 px as FER2013 is, and a picture that holds no face."""
    for name in ("neutral", "happy"):
        folder = tmp_path / "small" / name
        folder.mkdir(parents=True)
        for path in sorted((faces / name).iterdir())[:4]:
            Image.open(path).convert("L").resize((48, 48)).save(folder / f"{path.stem}.png")
    Image.new("L", (48, 48), 90).save(tmp_path / "small" / "neutral" / "nobody.png")
    return tmp_path / "small"


def classifier(classes=CLASSES):
    torch.manual_seed(0)
    return TrainedClassifier([build(RECIPE, len(classes)).eval()], RECIPE, classes)


def test_a_table_gives_the_original_images_back(table, faces):
    path = sorted((faces / "happy").iterdir())[3]
    assert len(table) == 20
    assert table.labels[3] == Expression.HAPPY
    image = np.array(Image.open(path).convert("RGB"))
    assert np.array_equal(table.image(3), image)
    assert table.digest(3) == image_digest(image)
    part = table.take(torch.tensor([7, 3]))
    assert np.array_equal(part.image(1), image)
    assert torch.equal(net_input(part.image(1), part.points[1].numpy()), table.pixels[3])


@pytest.mark.parametrize("name", ["pixel", "unet_cgan"])
def test_a_synthetic_face_has_the_bytes_that_users_get(table, faces, tmp_path, name):
    request = SynthesisRequest(Expression.HAPPY, 0.8)
    images = [np.array(Image.open(path)) for path in sorted((faces / "neutral").iterdir())[:5]]
    outcomes = ExpressionAugmenter(name)(images, [request] * 5)
    first = [o.target for o in outcomes].index(Expression.HAPPY)  # the check may refuse some
    row, expected = 10 + first, outcomes[first]
    augmenter = augmenter_of(name, table, None, tmp_path / "work", CPU)
    for _ in range(2):  # made, and from the cache
        (found,) = synthetic_images(augmenter, table, [(row, request)])
        assert np.array_equal(found.image, expected.image)
    assert found.cached
    made = make(augmenter, table, [(row, request)], CLASSES)
    assert torch.equal(made.pixels[0], net_input(expected.image, table.points[row].numpy()))
    assert not torch.equal(made.pixels[0], table.pixels[row])
    assert (made.source.tolist(), made.target.tolist()) == ([row], [Expression.HAPPY])


def test_by_landmarks_too_and_each_image_is_looked_at_once(small_faces, tmp_path, monkeypatch):
    table = read_faces(str(small_faces), tmp_path / "work")
    assert table.found.tolist() == [True] * 8 + [False]
    request = SynthesisRequest(Expression.SURPRISE, 1.0, 1)
    (expected,) = ExpressionAugmenter("transfer")([table.image(5)], [request])

    def fails(*_):
        raise AssertionError("the cache knows where the face is")

    monkeypatch.setattr(LandmarkDetector, "__call__", fails)
    augmenter = augmenter_of("transfer", table, None, tmp_path / "work", CPU)
    (found,) = synthetic_images(augmenter, table, [(5, request)])
    assert found.target == Expression.SURPRISE
    assert np.array_equal(found.image, expected.image)


def test_what_cannot_be_used_is_told_and_not_trained_on(small_faces, tmp_path, smile, capsys):
    table = read_faces(str(small_faces), tmp_path / "work")
    request = SynthesisRequest(Expression.HAPPY)
    augmenter = augmenter_of("transfer", table, None, tmp_path / "work", CPU)
    made = make(augmenter, table, [(8, request), (4, request)], CLASSES)
    assert made.source.tolist() == [4]
    assert "1 of 2 synthetic faces can be used (no_face: 1)" in capsys.readouterr().out
    # a synthesizer that does nothing
    idle = create_synthesizer(smile)
    for part in (idle.weight, idle.bias, idle.displacement):
        part.zero_()
    made = make(
        augmenter_of(idle, table, None, tmp_path / "work", CPU), table, [(4, request)], CLASSES
    )
    assert len(made) == 0
    assert "0 of 1 synthetic faces can be used (unchanged: 1)" in capsys.readouterr().out


def test_requests_are_even_over_targets_and_none_comes_twice(table, tmp_path):
    augmenter = augmenter_of("unet_cgan", table, None, tmp_path / "work", CPU)
    plan = Plan("unet_cgan", ratio=2.0, intensities=(0.6, 0.8, 1.0))
    asked = sample_requests(plan, table, CLASSES, augmenter)
    assert len(set(asked)) == len(asked)
    assert [face for face, _ in asked] == sorted(face for face, _ in asked)
    for face, request in asked:
        assert request.target != table.labels[face]
        assert request.intensity in plan.intensities
    happy = sum(request.target == Expression.HAPPY for _, request in asked)
    assert 12 <= happy <= 20  # 20 were sampled, some of them twice
    assert asked == sample_requests(plan, table, CLASSES, augmenter)
    only = sample_requests(replace(plan, targets=("happy",)), table, CLASSES, augmenter)
    assert {request.target for _, request in only} == {Expression.HAPPY}


def test_a_net_of_the_gate_is_a_fer_classifier(table):
    net = classifier()
    aligned = table.pixels[:, None].float() / 255
    found = net.probabilities(aligned.expand(-1, 3, -1, -1))
    assert torch.allclose(found, net.predict(table.pixels), atol=1e-5)
    assert torch.allclose(found.sum(1), torch.ones(20), atol=1e-5)
    large = torch.nn.functional.interpolate(aligned, size=(128, 128), mode="bilinear")
    assert torch.allclose(net.probabilities(large), found, atol=0.05)
    assert net.features(aligned).shape == (20, 8)
    assert net.name == classifier().name
    next(net.parameters()).data.add_(1)
    assert TrainedClassifier(net.nets, RECIPE, CLASSES).name != net.name


def test_the_gate_scores_what_is_trained_on(table, tmp_path, capsys):
    net = classifier()
    request = SynthesisRequest(Expression.HAPPY)
    passing = augmenter_of("pixel", table, ExpressionGate(net, 0.0), tmp_path / "work", CPU)
    made = make(passing, table, [(12, request)], CLASSES)
    # aligned at another size and pasted back in between, so nearly
    assert torch.allclose(made.probabilities, net.predict(made.pixels), atol=0.02)
    strict = augmenter_of("pixel", table, ExpressionGate(net, 1.1), tmp_path / "work", CPU)
    assert len(make(strict, table, [(12, request)], CLASSES)) == 0
    assert "(expression_not_seen: 1)" in capsys.readouterr().out


def test_thresholds_come_from_real_faces_seen_as_the_pipeline_sees_them(faces, tmp_path):
    table = read_faces(str(faces), tmp_path / "work")
    augmenter = augmenter_of("pixel", table, None, tmp_path / "work", CPU)
    found, seen = pipeline_views(augmenter, table)
    assert found.tolist() == list(range(20))
    assert (seen.float() - table.pixels.float()).abs().mean() < 3


def test_synthetics_of_a_fold_pass_gates_that_did_not_see_their_source(table, tmp_path):
    fold = Fold(CLASSES, table, table, {})
    options = GateOptions(expression=0.2, steps=6)
    arguments = (RECIPE, CONDITIONS["strong"], tmp_path / "work", CPU)
    plan = Plan("pixel", ratio=1.0)
    made = gated_synthetics(fold, plan, options, *arguments)
    assert len(made) > 0
    for source, target in zip(made.source.tolist(), made.target.tolist(), strict=True):
        assert table.labels[source] != target
    assert not made.probabilities.isnan().any()
    everything = gated_synthetics(fold, plan, replace(options, expression=-1.0), *arguments)
    assert len(everything) > len(made)
    assert everything.probabilities.isnan().all()
    again = gated_synthetics(fold, plan, options, *arguments)
    assert torch.equal(made.pixels, again.pixels)
    with pytest.raises(ValueError, match="makes none of fear"):
        gated_synthetics(
            replace(fold, classes=(Expression.FEAR,)), plan, GateOptions(-1), *arguments
        )


def test_own_exemplars_are_those_of_the_training_faces(faces, tmp_path):
    table = read_faces(str(faces), tmp_path / "work")
    lent = table.take(torch.arange(6, 14))  # four smile
    model = synthesizer_for("transfer:own", lent, tmp_path / "work")
    assert model.config["rows"]["happy"] == 4
    assert model.fingerprint != create_synthesizer("transfer").fingerprint
    assert synthesizer_for("transfer:own", lent, tmp_path / "work").fingerprint == model.fingerprint
    with pytest.raises(ValueError, match="takes no exemplars"):
        synthesizer_for("pixel:own", lent, tmp_path / "work")


def test_classes_are_read_by_a_scheme_that_must_fit(small_faces):
    (small_faces / "happy").rename(small_faces / "grin")
    with pytest.raises(LabelError, match="grin"):
        open_images(str(small_faces))
    given = open_images(str(small_faces), "grin=happy,neutral=none")
    assert given.expressions.count(Expression.HAPPY) == 4
    assert given.expressions.count(None) == 5
    with pytest.raises(FileNotFoundError, match="no such"):
        open_images("nowhere")


def test_sets_of_other_libraries_are_read_too(small_faces, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    import torchvision.datasets

    picture = Image.open(small_faces / "happy" / "london_008.png")
    hub = datasets.Dataset.from_dict(
        {"image": [picture, picture.convert("RGB")], "label": [1, 0], "subject": ["a", "b"]},
        datasets.Features(
            image=datasets.Image(),
            label=datasets.ClassLabel(names=["sadness", "joy"]),
            subject=datasets.Value("string"),
        ),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: {"train": hub}[split])
    found = open_images("someone/faces:train")
    assert list(found.expressions) == [Expression.HAPPY, Expression.SAD]
    assert list(found.people) == ["a", "b"]
    assert np.array_equal(found.read(0), np.array(picture))
    assert found.read(1).shape == (48, 48, 3)

    monkeypatch.setattr(
        torchvision.datasets, "FER2013", lambda root, split: [(picture, 3), (picture, 6)]
    )
    found = open_images(f"{tmp_path}:train")
    assert list(found.expressions) == [Expression.HAPPY, Expression.NEUTRAL]
    assert np.array_equal(found.read(1), np.array(picture))


def test_rows_of_two_paths_are_never_in_one_table(tmp_path, capsys):
    out = tmp_path / "results.csv"
    metrics = dict.fromkeys(("balanced_accuracy", "macro_f1", "ece"), 0.5)
    for path, accuracy in (("aligned-64px", 0.9), ("pipeline", 0.4)):
        row = {"setting": "a", "path": path, "condition": "strong", "seed": 0, "digest": "d"}
        append(out, [row | metrics | {"test_set": "test", "accuracy": accuracy}])
        assert done(out) == (set() if path == "aligned-64px" else {("a", "strong", "0", "d")})
    print_tables(out)
    shown = capsys.readouterr().out
    assert "| 40.0 |" in shown
    assert "90.0" not in shown
    print_tables(out, path="aligned-64px")
    former = capsys.readouterr().out
    assert "| 90.0 |" in former
    assert "40.0" not in former
    with pytest.raises(typer.BadParameter, match="no row with path 'elsewhere'"):
        print_tables(out, path="elsewhere")


def test_the_results_that_are_kept_say_by_which_path_they_were_made():
    rows = read_results(REPOSITORY / "recipes" / "fer" / "fer.csv")
    assert rows
    assert set(rows[0]) == set(COLUMNS)
    assert {row["path"] for row in rows} <= {"aligned-64px", "pipeline"}
