"""The fit, on pairs that the teacher makes of the sample faces."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from expraug import Expression, create_synthesizer
from expraug.networks.fer_classifier import load_fer_classifier
from recipes.pairs.make_pairs import make
from recipes.pixel import fit as recipe
from recipes.pixel.examples import both_ways, of_pairs, of_photographs
from recipes.real_faces import LONDON, extract
from recipes.strength.calibrate import SHAPES, Limits


@pytest.fixture(scope="module")
def people(faces, tmp_path_factory):
    """The sample faces, neutral and smiling, with landmarks."""
    folder = tmp_path_factory.mktemp("people")
    files = [f for path in sorted((faces / "neutral").iterdir())[:6]
             for f in (path, faces / "happy" / path.name)]  # fmt: skip
    table = {
        "image": [{"bytes": f.read_bytes(), "path": f.name} for f in files],
        "expression": [f.parent.name for f in files],
        "identity": [f.stem for f in files],
    }
    pq.write_table(pa.table(table), folder / "train.parquet")
    return extract(LONDON, folder / "train.parquet", folder)


@pytest.fixture(scope="module")
def face():
    return recipe.mean_face(side=40)


@pytest.fixture(scope="module")
def examples(people, face):
    teacher, classifier = create_synthesizer("transfer"), load_fer_classifier()
    pairs = make(teacher, classifier, people, each=3, least=0.0, seed=0)
    return of_pairs(pairs, face)


def test_maps_lie_on_the_face_wherever_it_is(face):
    mesh = face.mesh.float()[None]
    x = (torch.arange(64) + 0.5) / 64
    ramp = x.expand(1, 1, 64, 64)
    there = face.maps(ramp, mesh) != 0
    one = face.maps(ramp, mesh * 0.7 + 0.1)[there]
    other = (face.maps(ramp, mesh) * 0.7 + 0.1)[there]
    assert there.float().mean() > 0.2
    assert (one - other).abs().max() < 1e-2


def test_photographs_are_pairs_both_ways(people, face):
    real = of_photographs(people, face)
    assert len(real) == 12
    assert sorted(real.target.tolist()) == [0] * 6 + [1] * 6
    assert (real.target != real.shown).all()
    smiles = real.take(real.target == int(Expression.HAPPY))
    corners = smiles.moved[:, [61, 291]] - smiles.laid[:, [61, 291]]
    assert (corners[..., 1] < 0).float().mean() > 0.8, "corners of the mouth go up"
    assert smiles.lightening.float().abs().mean() > 0.01


def test_mirror_images_are_learned_from_too(examples, face):
    both = both_ways(examples, face)
    contempt = examples.target == int(Expression.CONTEMPT)
    assert len(both) == 2 * len(examples) - int(contempt.sum())
    others = examples.take(~contempt)
    light = both.take(both.target != int(Expression.CONTEMPT)).lightening
    assert torch.equal(light[len(others) :], others.lightening.flip(2))
    mirrored = face.mirrored(others.laid)
    assert torch.allclose(face.mirrored(mirrored), others.laid, atol=1e-9)
    # left in the picture becomes right
    assert torch.allclose(mirrored[:, 61, 0], 1 - others.laid[:, 291, 0], atol=1e-9)


def test_the_fit_does_what_the_teacher_did(examples, face, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "FEWEST", 1)
    monkeypatch.setattr(recipe, "COMPONENTS", 4)
    recipe.fit(examples, face).save_pretrained(tmp_path)
    model = create_synthesizer(str(tmp_path))
    assert len(model.expressions) >= 6
    wanted = examples.moved - examples.laid
    row = model.row[examples.target]
    guess = model.displaced(examples.laid.float(), row)
    assert (guess - wanted).square().mean() < 0.6 * wanted.square().mean()
    light = model.weight[row, 0] * examples.light.float() + model.bias[row, 0]
    left = (light - examples.lightening.float()).square().mean()
    assert left < 0.8 * examples.lightening.float().square().mean()


def test_strength_raises_what_becomes_of_the_mean_neutral_face(examples, face, monkeypatch):
    monkeypatch.setattr(recipe, "FEWEST", 1)
    monkeypatch.setattr(recipe, "COMPONENTS", 4)
    neutral = examples.laid[examples.shown == int(Expression.NEUTRAL)].mean(0, keepdim=True)
    model = recipe.fit(examples, face)
    row = model.row[torch.tensor([int(Expression.SURPRISE), int(Expression.SAD)])]
    # the mean of the shapes of those that became surprised is not quite this one
    before = [model.displaced(neutral.float(), r[None]) for r in row]
    recipe.strengthen(model, examples, face, {Expression.SURPRISE: (2.0, 1.0)})
    after = [model.displaced(neutral.float(), r[None]) for r in row]
    assert (after[0].norm() / before[0].norm()).item() == pytest.approx(2.0, abs=0.2)
    assert torch.equal(after[1], before[1])


def test_strengths_are_chosen_by_what_is_seen(examples, face, instrument, monkeypatch):
    monkeypatch.setattr(recipe, "FEWEST", 1)
    monkeypatch.setattr(recipe, "COMPONENTS", 4)
    model = recipe.fit(examples, face)
    row = model.row[torch.tensor([int(Expression.SURPRISE)])]
    neutral = examples.laid[examples.shown == int(Expression.NEUTRAL)].mean(0, keepdim=True).float()
    before, told = model.displaced(neutral, row), []

    def strongest(measure, limits):
        told.append(measure(SHAPES[-1], limits.brightest))
        return told[-1]

    monkeypatch.setattr(recipe, "search", strongest)
    made = recipe.calibrated(model, examples, face, instrument, Limits(), 2)
    assert len(told) == len(model.expressions)
    assert all(one.ratios.shape == (2,) for one in told)
    far = made.displaced(neutral, row).norm() / before.norm()
    assert far.item() == pytest.approx(SHAPES[-1], abs=0.2)
